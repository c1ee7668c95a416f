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
    reference: Path,
    estimate: Path,
    unprocessed: Path | None = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    jobs: int = os.cpu_count() or 1,
    overwrite: bool = False,
) -> int:
    """Score recordings against their clean references: PESQ, STOI, SI-SDR, CSIG, CBAK, COVL, DNSMOS.

    Files are paired by their path below the folder, without suffix; other rates are resampled to 16 kHz. Prints the
    mean of each measure with its 95 % confidence interval. Recordings without counterpart or of different length are
    named and left out, and the exit code is then 1.

    Example:
        sottovoce evaluate --reference test/clean --estimate test/enhanced --unprocessed test/noisy -o test/scores

    Args:
        reference: Folder of clean recordings.
        estimate: Folder of enhanced recordings.
        unprocessed: Folder of the recordings before enhancement, to stand beside.
        output: Folder for scores.csv (every file), scores.md (means and every file) and scores.png (means).
        jobs: Number of processes.
        overwrite: Replace earlier scores in the output folder.
    """
    require("metrics", "Scoring", "pystoi", "scipy", *(["matplotlib"] if output else []))
    from sottovoce.atomic import replacing

    with interruption.ending_at_once():
        from sottovoce.metrics import plots, report, scores

    if jobs < 1:
        raise ConfigError(f"Found --jobs {jobs}, expected 1 or more.")
    targets = {name: output / f"scores.{name}" for name in ("csv", "md", "png")} if output else {}
    refuse_existing(*targets.values(), overwrite=overwrite)
    systems = {"estimate": estimate} | ({"unprocessed": unprocessed} if unprocessed else {})
    tasks, problems = scores.match(reference, systems)
    with terminal.progress() as show:
        done = itertools.count(1)
        results, failures = scores.score_jobs(
            tasks, workers=jobs, on_done=lambda: show("scoring", next(done), len(tasks), "")
        )
    problems += failures
    for problem in problems:
        terminal.warn(f"left out: {problem}")
    if not results:
        raise DataError(f"Found no recording in {estimate} that can be scored: see above.")
    notes = [*scores.notes(), *scores.silent_channels(results)]
    terminal.print_table(
        report.table(results), title=f"mean ± 95 % confidence interval, {len(results) // len(systems)} file(s)"
    )
    for note in notes:
        terminal.warn(f"note: {note}")
    if output:
        for name, text in {"csv": report.to_csv(results), "md": report.to_markdown(results, notes=notes)}.items():
            with replacing(targets[name], overwrite=overwrite) as path:
                path.write_text(text, encoding="utf-8")
        chart = plots.score_chart(report.summarise(results), title=estimate.name)
        plots.save(chart, targets["png"], overwrite=overwrite)
        terminal.say(f"Wrote {', '.join(str(path) for path in targets.values())}.")
    return 1 if problems else 0
