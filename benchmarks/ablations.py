"""What each ingredient of the default system is worth, and how much recorded sound it takes to learn.

    python recipes/prepare_data.py data
    python benchmarks/ablations.py data

trains `default_short` and its variants of `conf/ablations`, equal in steps, and `default_short` on less sound, and
scores them on every fourth mixture of the development sets and on the 50 pairs of `SOTTOVOCE_DATA`. A row takes some
ten to twenty minutes of one core; what was trained or scored is not done again, so an interrupted benchmark goes on,
and the tables keep the rows of earlier trainings of the same recipe.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from _scoring import (
    UNPROCESSED,
    Item,
    find_sets,
    model,
    read_score_table,
    scored,
    unprocessed,
    write_scores,
)

from sottovoce.config import RunSettings, SystemSettings, dump_settings, find_settings, load_settings
from sottovoce.data.corpora.manifest import scan
from sottovoce.metrics import plots
from sottovoce.metrics.report import differences, markdown_table, summarise
from sottovoce.metrics.scores import MEASURE_NAMES, WITHOUT_DNSMOS, FileScores
from sottovoce.models.export import Provenance, export_model
from sottovoce.models.joint import JointAutoencoder
from sottovoce.training.run import train
from sspd2023.settings import ExperimentSettings, load_row
from sspd2023.training import load_system, train_system

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results" / "ablations"
BASE = "default_short"
SUPERVISED = "default_supervised"
EVERY = 4  # neither the ratios nor the kinds of noise, which take turns, come in fours
SHOWN = ("pesq_wb", "stoi", "si_sdr_db", "csig", "covl")
LEAD_IN_GUARD_SECONDS = 0.1
AUDIBLE = 1e-4
SCORES, RECIPE = "scores.csv", f"{BASE}.yaml"
STEPS = " steps"


@dataclass(frozen=True)
class Row:
    """One training.

    Attributes:
        name: What it is called in the tables.
        what: What is different, for readers.
        settings: Name of its settings below `conf/ablations`.
        seed: Seed of the training.
        speech_minutes: Minutes of clean speech to train on; None for all.
        mixture_minutes: Minutes of noisy recordings to train on; None for all.
        lead_in: Whether recordings begin before the speaker does.
    """

    name: str
    what: str
    settings: str = BASE
    seed: int = 1
    speech_minutes: float | None = None
    mixture_minutes: float | None = None
    lead_in: bool = True


INGREDIENTS = (
    Row(BASE, "the default's ingredients"),
    Row("seed 2", "the same with another seed", seed=2),
    Row("supervised", "recordings and their clean versions in place of simulated pairs", SUPERVISED),
    Row("pseudo-pairs only", "no shared latent, no loss on the recordings themselves", "default_pseudo_pairs_only"),
    Row("short window", "equal windows of 32 ms: half the frequency resolution", "default_short_window"),
    Row("phases", "phases as they are in place of their differences", "default_phases"),
    Row("shallow", "three wide blocks in place of four", "default_shallow"),
    Row("low rate", "a quarter of the learning rate", "default_low_rate"),
    Row("few noises", "noises as they are recorded, one at a time, none made", "default_few_noises"),
    Row("no variety", "voices and noises as they are recorded", "default_no_variety"),
    Row("latents apart", "E_M is not drawn to E_S", "default_latents_apart"),
    Row("no complex loss", "simulated pairs train amplitudes alone", "default_no_complex_loss"),
    Row("one resolution", "losses of the system's own windows alone", "default_one_resolution"),
    Row("consistency", "amplitude and phase have to belong to a sound", "default_consistency"),
    Row("whole attenuation", "nothing removed stays in the targets", "default_whole_attenuation"),
    Row("mask pre-task", "the latent also knows ratio and dereverberation masks", "default_mask_pretask"),
)
# What is no longer in the code: the tables keep what earlier trainings scored.
REPLACED = {
    "no pseudo-pairs": "recordings alone teach, speech decoded from the latent",
    "no mask": "speech decoded from the latent",
    "no noise code": "D_M sees the latent alone",
    "temporal": "dilated convolutions in place of bands, at equal cost",
}
LAST_WITH_REPLACED = "a0f5f57"
REMOVED = {
    "loudness": "with the loss after ITU-T P.862",
    "remixed": "with self-training on remixed estimates",
    "adversarial": "with an adversary",
    "alignment": "with sliced-Wasserstein alignment of latents",
    "averaged": "with averaged weights",
}
LAST_WITH_REMOVED = "c8d5ff2"
AMOUNTS = (
    Row("speech 5 min", "5 minutes of clean speech", speech_minutes=5),
    Row("speech 15 min", "15 minutes of clean speech", speech_minutes=15),
    Row("mixtures 5 min", "5 minutes of noisy recordings", mixture_minutes=5),
    Row("mixtures 15 min", "15 minutes of noisy recordings", mixture_minutes=15),
    Row("mixtures 30 min", "30 minutes of noisy recordings", mixture_minutes=30),
    Row("no lead-in", "recordings that begin with the speaker", lead_in=False),
)
LATENCIES = (
    Row("live", "16 ms: asymmetric windows, the analysis as long as the default's", "live_short"),
    Row("live symmetric", "16 ms: equal windows, a quarter as long", "live_symmetric"),
    Row("8 ms", "8 ms: asymmetric windows, four times the frames, a narrower network", "live_8ms"),
)
ROWS = (*INGREDIENTS, *AMOUNTS, *LATENCIES)


def main() -> int:
    """Train and score the rows of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("data", type=Path, nargs="?", default=Path("data"), help="folder of recipes/prepare_data.py")
    add("-o", "--output", type=Path, default=RESULTS, help="folder of the tables and all scores")
    add("--work", type=Path, default=Path("runs/ablations"), help="folder of trainings and scores")
    add("--row", action="append", choices=[row.name for row in ROWS], help="train this row alone")
    add(
        "--snapshot", action="append", default=[], metavar="STEPS=FILE", help="a model of the default's training so far"
    )
    add("--trained", action="store_true", help="train nothing: report what is trained already")
    add("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if not (arguments.data / "mixtures").is_dir():
        print(f"Skipped: found no recordings in {arguments.data}; make them with recipes/prepare_data.py.")
        return 0
    for row in ROWS:
        if (not arguments.trained and arguments.row in (None, [row.name])) or row.name in (arguments.row or ()):
            train_row(row, arguments.data, arguments.work)
    sets = {name: items if name == "pairs" else items[::EVERY] for name, items in find_sets(arguments.data).items()}
    scores: dict[str, list[FileScores]] = {name: [] for name in sets}
    trained = [row for row in ROWS if exported(row, arguments.work).exists()]
    systems = {UNPROCESSED: unprocessed()}
    systems |= {row.name: model(exported(row, arguments.work)) for row in trained}
    systems |= {
        f"{int(steps)}{STEPS}": model(Path(path)) for steps, path in (pair.split("=", 1) for pair in arguments.snapshot)
    }
    for name, items in sets.items():
        for key, system in systems.items():
            scores[name] += scored(
                items, key, system, arguments.work / "scores" / name, arguments.jobs, measures=WITHOUT_DNSMOS
            )
    for name, results in earlier(arguments.output, sets).items():
        scores[name] += [result for result in results if result.system not in systems]
    found = {result.system for results in scores.values() for result in results}
    on_its_way = {float(name.removesuffix(STEPS)): name for name in found if name.endswith(STEPS)}
    lines = report(
        sets,
        scores,
        {
            "Ingredients": {row.name: row.what for row in INGREDIENTS if row.name in found}
            | {name: what for name, what in (REPLACED | REMOVED).items() if name in found},
            "Amounts of sound": {row.name: row.what for row in (INGREDIENTS[0], *AMOUNTS) if row.name in found},
            "Latency": {row.name: row.what for row in (INGREDIENTS[0], *LATENCIES) if row.name in found},
            "Training time": {on_its_way[steps]: "the default on its way" for steps in sorted(on_its_way)},
        },
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    curves = {
        what: {scan(arguments.data / folder).seconds / 60: BASE}
        | {minutes: row.name for row in AMOUNTS if (minutes := getattr(row, field)) and row.name in found}
        for what, folder, field in (
            ("minutes of clean speech", "speech", "speech_minutes"),
            ("minutes of noisy recordings", "mixtures", "mixture_minutes"),
        )
    }
    curves["steps of the default's training"] = on_its_way
    drawn = {what: systems for what, systems in curves.items() if len(systems) > 1}
    if drawn:
        plots.save(learning_curves(scores, drawn), arguments.output / "learning_curves.png")
        lines += ["![Learning curves](learning_curves.png)", ""]
    (arguments.output / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_scores(arguments.output / SCORES, scores)
    (arguments.output / RECIPE).write_text(dump_settings(settings_of(BASE)), encoding="utf-8")
    print("\n".join(lines))
    return 0


def settings_of(name: str) -> RunSettings:
    """Settings of `conf/ablations`; those that learn from pairs are the experiment's."""
    return load_row(f"ablations/{name}") if name == SUPERVISED else load_settings(find_settings(f"ablations/{name}"))


def earlier(folder: Path, sets: dict[str, list[Item]]) -> dict[str, list[FileScores]]:
    """Scores of an earlier run on the same recordings; none if the recipe was another one then."""
    recipe = folder / RECIPE
    if not recipe.exists() or load_settings(recipe) != settings_of(BASE):
        return {}
    scores = read_score_table(folder / SCORES)
    files = {name: {item.file for item in items} for name, items in sets.items()}
    return {name: results for name, results in scores.items() if files.get(name) == {result.file for result in results}}


def exported(row: Row, work: Path) -> Path:
    """Where a row's model is, or will be."""
    return work / row.name.replace(" ", "_") / "model.onnx"


def train_row(row: Row, data: Path, work: Path) -> None:
    """Train a row, or go on with it."""
    target = exported(row, work)
    if target.exists():
        return
    settings = settings_of(row.settings)
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": row.seed})})
    speech, mixtures = data / "speech", data / "mixtures"
    if row.speech_minutes:
        speech = some(speech, work / "data" / f"speech_{row.speech_minutes:g}", row.speech_minutes, shuffled)
    if row.mixture_minutes:
        mixtures = some(mixtures, work / "data" / f"mixtures_{row.mixture_minutes:g}", row.mixture_minutes, spread)
    if not row.lead_in:
        mixtures = without_lead_in(data, work / "data" / "without_lead_in")
    print(f"{row.name}: training", flush=True)
    provenance = Provenance("not for use", (), f"benchmarks/ablations.py --row {row.name!r}")
    if isinstance(settings, ExperimentSettings):
        network, _ = load_system(train_system(speech, mixtures, target.parent, settings, clean=data / "hidden"))
        assert isinstance(network, JointAutoencoder)
        exported_as = SystemSettings.model_validate(settings.model_dump(include=set(SystemSettings.model_fields)))
        export_model(target, network, exported_as, provenance)
    else:
        assert isinstance(settings, SystemSettings)
        train(speech, mixtures, target.parent, settings, provenance)


def shuffled(paths: Sequence[Path], _: float) -> list[Path]:
    """In an order in which speakers are mixed."""
    return [paths[index] for index in np.random.default_rng(0).permutation(len(paths))]


def spread(paths: Sequence[Path], share: float) -> list[Path]:
    """A share of the paths, evenly, and then the others."""
    chosen = np.linspace(0, len(paths) - 1, max(2, round(share * len(paths)))).round().astype(int)
    return [paths[index] for index in (*chosen, *sorted(set(range(len(paths))) - set(chosen)))]


def some(source: Path, target: Path, minutes: float, order: Callable[[Sequence[Path], float], list[Path]]) -> Path:
    """Link recordings of so many minutes."""
    recordings = {recording.path: recording.seconds for recording in scan(source).recordings}
    found = 0.0
    for path in order(list(recordings), 60 * minutes / sum(recordings.values())):
        if found >= 60 * minutes:
            break
        found += recordings[path]
        link = target / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(path.resolve())
    return target


def without_lead_in(data: Path, target: Path) -> Path:
    """Recordings cut to where the speaker begins; the clean versions are used for that alone."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((data / "mixtures").glob("*.flac")):
        if not (target / path.name).exists():
            clean, rate = soundfile.read(data / "hidden" / path.name)
            first = int(np.flatnonzero(np.abs(clean) > AUDIBLE)[0]) - round(LEAD_IN_GUARD_SECONDS * rate)
            waveform, _ = soundfile.read(path, start=max(0, first))
            soundfile.write(target / path.name, waveform, rate)
    return target


def learning_curves(scores: dict[str, list[FileScores]], curves: dict[str, dict[float, str]]) -> "Figure":
    """Gain in PESQ wb from more of something, a panel for each: `curves[of what][how much]` is the system's name."""
    figure = plots.new_figure(4.2 * len(curves), 3.4)
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axis, (what, systems) in zip(axes, curves.items(), strict=True):
        amounts = sorted(systems)
        for colour, (name, results) in zip(plots.COLOURS, scores.items(), strict=False):
            gains = [differences(results, systems[amount], UNPROCESSED)["pesq_wb"] for amount in amounts]
            axis.errorbar(
                amounts,
                [gain.value for gain in gains],
                [gain.half_width for gain in gains],
                color=colour,
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1.2,
                label=name,
            )
        plots.tidy(axis)
        axis.set_xscale("log")
        axis.set_xticks(amounts, [f"{amount:.0f}" for amount in amounts])
        axis.minorticks_off()
        axis.set_xlabel(what, color=plots.INK)
    axes[0].set_ylabel("gain in PESQ wb over unprocessed", color=plots.INK)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def report(
    sets: dict[str, list[Item]], scores: dict[str, list[FileScores]], kinds: dict[str, dict[str, str]]
) -> list[str]:
    """Tables of every kind of rows on all sets."""
    lines = [
        "# Ablations of the default system",
        "",
        f"Trainings of `{BASE}`: 300 steps of its first stage and 600 of its second, with 8 clips each, where "
        "the default has 1000 and 4600 with 32. "
        f"Means with 95 % confidence intervals; every {EVERY}th mixture of the development sets, all pairs. One seed "
        "each unless a row says so: differences below those between the two seeds are chance. Rows that are not "
        f"trained yet are missing. The code of {', '.join(REMOVED)} was removed, since they gained nothing; the last "
        f"commit that has it is {LAST_WITH_REMOVED}. The product can no longer be trained as in the rows "
        f"{', '.join(REPLACED)}: the last commit that can is {LAST_WITH_REPLACED}.",
        "",
    ]
    for heading, rows in kinds.items():
        if not set(rows) - {BASE}:  # nothing is trained yet to compare it with
            continue
        lines += [f"## {heading}", ""]
        for name, results in scores.items():
            table = [["", "", *(MEASURE_NAMES[m] for m in SHOWN), f"PESQ wb − {BASE}"]]
            means = summarise(results, SHOWN)
            for system, what in {UNPROCESSED: "as recorded", **rows}.items():
                gain = "" if system == BASE else f"{differences(results, system, BASE)['pesq_wb']:+.3f}"
                table.append([system, what, *map(str, means[system].values()), gain])
            lines += [f"### {name} ({len(sets[name])} files)", "", *markdown_table(table), ""]
    return lines


if __name__ == "__main__":
    sys.exit(main())
