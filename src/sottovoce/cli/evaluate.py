"""The command `evaluate`."""

import itertools
import os
from pathlib import Path
from typing import Annotated

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import refuse_existing
from sottovoce.errors import ConfigError, DataError
from sottovoce.extras import require


def evaluate(
    *,
    reference: Path | None = None,
    estimate: Path,
    unprocessed: Path | None = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    measures: tuple[str, ...] = (),
    jobs: int = os.cpu_count() or 1,
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Score recordings against their clean references: PESQ, STOI, SI-SDR, CSIG, CBAK, COVL, DNSMOS.

    Files of folders are paired by their path below them, without suffix; other rates are resampled to 16 kHz. Prints
    the mean of each measure with its 95 % confidence interval. Recordings without counterpart or of different length
    are named and left out, and the exit code is then 1. Without a reference, DNSMOS and levels are measured.

    Example:
        sottovoce evaluate --reference test/clean --estimate test/enhanced --unprocessed test/noisy -o test/scores
        sottovoce evaluate --reference clean.wav --estimate enhanced.wav --unprocessed noisy.wav
        sottovoce evaluate --estimate recordings/ --measures dnsmos_ovrl speech_dbfs

    Args:
        reference: Clean recordings, a folder or one file; without them, what needs none is measured.
        estimate: Enhanced recordings, a folder or one file.
        unprocessed: The recordings before enhancement, scored for comparison.
        output: Folder for scores.csv (every file), scores.md (means and every file) and, of all measures against a
            reference, scores.png (means).
        measures: Names of the measures, as the table has them; all if not given.
        jobs: Number of processes.
        overwrite: Replace earlier scores in the output folder.
        json: Print the scores of every file as JSON, in place of the table of means.
    """
    draws = reference is not None and not measures
    against = ["pystoi"] if reference else []
    require("metrics", "Scoring", "scipy", *against, *(["matplotlib"] if output and draws else []))
    from sottovoce.atomic import replacing

    with interruption.ending_at_once():
        from sottovoce.metrics import plots, report, scores

    if jobs < 1:
        raise ConfigError(f"found --jobs {jobs}, expected 1 or more")
    known = scores.MEASURES if reference else scores.RATINGS
    for measure in measures:
        if measure not in known:
            where = "with" if reference else "without"
            raise ConfigError(f"found the measure {measure!r}, expected {where} a reference some of {', '.join(known)}")
    kinds = ("csv", "md", "png") if draws else ("csv", "md")
    measures = measures or known
    targets = {name: output / f"scores.{name}" for name in kinds} if output else {}
    refuse_existing(*targets.values(), overwrite=overwrite)
    systems = {"estimate": estimate} | ({"unprocessed": unprocessed} if unprocessed else {})
    tasks, problems = scores.match(reference, systems) if reference else (scores.list_jobs(systems), [])
    with terminal.progress() as show:
        done = itertools.count(1)
        results, failures = scores.score_jobs(
            tasks, workers=jobs, measures=measures, on_done=lambda: show("scoring", next(done), len(tasks))
        )
    problems += failures
    for problem in problems:
        terminal.warn(f"left out: {problem}")
    if not results:
        raise DataError(f"found no recording in {estimate} that can be scored: see above")
    notes = [*scores.notes(measures), *scores.silent_channels(results)]
    if output:
        texts = {
            "csv": report.to_csv(results, measures),
            "md": report.to_markdown(results, measures, notes=notes),
        }
        for name, text in texts.items():
            with replacing(targets[name], overwrite=overwrite) as path:
                path.write_text(text, encoding="utf-8")
        if draws:
            chart = plots.score_chart(report.summarise(results, measures), title=estimate.name)
            plots.save(chart, targets["png"], overwrite=overwrite)
    if json:
        rows = [
            {"file": result.file, "system": result.system}
            | {measure: getattr(result.scores, measure) for measure in measures}
            for result in results
        ]
        terminal.print_json({"files": rows, "left_out": problems, "notes": notes})
    else:
        title = f"mean ± 95 % confidence interval, {len(results) // len(systems)} file(s)"
        terminal.print_table(report.table(results, measures), title=title)
    for note in notes:
        terminal.say(f"note: {note}", to_stderr=True)
    if output:
        # Behind JSON, a sentence on standard output would make it unreadable.
        terminal.say(f"Wrote {', '.join(str(path) for path in targets.values())}.", to_stderr=json)
    return 1 if problems else 0
