"""The whole experiment: corpora in, tables and figures out."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce import interruption
from sottovoce.atomic import replacing
from sottovoce.config import changed
from sottovoce.data.corpora.catalogue import Kind, read_corpus
from sottovoce.data.corpora.manifest import Manifest
from sottovoce.errors import ConfigError, DataError
from sottovoce.metrics import plots
from sottovoce.progress import Progress, named
from sottovoce.signal import audio
from sspd2023 import curves, figures, protocol, report, run
from sspd2023.phase import page, study
from sspd2023.protocol import Counts, Protocol
from sspd2023.results import UNPROCESSED, Facts, Result, Summary, to_csv
from sspd2023.run import Outcome, Training
from sspd2023.settings import ExperimentSettings, load_row
from sspd2023.split import Sources
from sspd2023.systems import SYSTEMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_QUICK_COUNTS = Counts(6, 8.0, 12, 8.0, 6, 5.0)
_QUICK_STEPS = (12, 12)
_QUICK_CLIPS = {"clip_seconds": 1.0, "speech_clips": 3, "mixture_clips": 2, "noise_clips": 1}
_SHOWN = ("sse", "pvq", "cf", "joint", "aligned_mask", "irm", "supervised")
_PAIRS = (
    ("joint", "sse"),
    ("joint", "pvq"),
    ("joint", "cf"),
    ("cf", "pvq"),
    ("pvq", "sse"),
    ("aligned_mask", "joint"),
    ("aligned_mask", "cf"),
    ("supervised", "joint"),
)
"""Systems that the poster ranks, the remedy and the bound: whose paired differences are shown."""

_BESIDE_ABLATIONS = ("unprocessed", "sse", "joint", "aligned_mask", "sse_ceiling", "joint_ceiling")
"""Main rows that stand beside the ablations."""

_ABLATION_PAIRS = (
    ("plus_second_decoder", "sse"),
    ("plus_shared_layer", "plus_second_decoder"),
    ("no_consistency", "plus_shared_layer"),
    ("joint", "no_consistency"),
    *(
        (row, "joint")
        for row in (
            *("shift_128", "shift_32", "one_decoder", "absolute_phase", "latent_noise_1", "no_latent_noise"),
            *("equaliser", "unit_phasors", "aligned_clean", "aligned_latents", "aligned_noise_code", "aligned_mask"),
            "joint_learning",
        )
    ),
    *((f"joint_learning_{schedule}", "joint_learning") for schedule in ("slow", "shared", "alternating", "from_start")),
    *(
        (f"{row}_ceiling", "joint_ceiling")
        for row in ("latent_noise_1", "no_latent_noise", "equaliser", "unit_phasors")
    ),
)
"""Every ablation and the row that it changes in one thing."""

_LEARNED_FROM = {"none": "–", "unpaired": "unpaired recordings", "pairs": "pairs", "oracle": "the answer"}


@dataclass(frozen=True)
class SourceNames:
    """Corpora by name, as `read_corpus` takes them; none at all for the examples of the repository.

    Attributes:
        speech: Clean dry speech.
        noise: Noises.
        rooms: Measured room impulse responses.
        test_speech: Speech of the test alone.
        test_noise: Noises of the test alone.
        test_rooms: Rooms of the test alone.
    """

    speech: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    test_speech: tuple[str, ...] = ()
    test_noise: tuple[str, ...] = ()
    test_rooms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """What is compared, on what, how long.

    Attributes:
        conditions: Names of `split.CONDITIONS`.
        sources: Corpora.
        systems: Names of rows, or "main", "ablations", "all".
        seeds: Seeds of the trainings.
        steps: Steps of the two stages of every training; None for those of the settings.
        counts: Sizes of the parts of the protocol.
        protocol_seed: Seed of split and mixtures.
        clips: Changes of the numbers of clips of a step; for a quick look alone.
        pages: Names of `PAGES` that are written as well.
    """

    conditions: tuple[str, ...] = ("poster",)
    sources: SourceNames = SourceNames()
    systems: tuple[str, ...] = ("main",)
    seeds: tuple[int, ...] = (1, 2, 3)
    steps: tuple[int, int] | None = None
    counts: Counts = field(default_factory=Counts)
    protocol_seed: int = 1
    clips: tuple[tuple[str, float], ...] = ()
    pages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What came out.

    Attributes:
        tables: Rows of text by title, the heading first: for the terminal.
        notes: What a reader has to know.
        files: What was written.
    """

    tables: dict[str, list[list[str]]]
    notes: list[str]
    files: list[Path]


def quick(experiment: Experiment) -> Experiment:
    """The same in a few minutes: one seed, few steps and small counts. It shows that all works, and no more."""
    return dataclasses.replace(
        experiment,
        seeds=experiment.seeds[:1],
        steps=_QUICK_STEPS,
        counts=_QUICK_COUNTS,
        clips=tuple(_QUICK_CLIPS.items()),
    )


def conduct(experiment: Experiment, output: Path, *, jobs: int = 1, on_progress: Progress | None = None) -> Report:
    """Build the data, train and score all systems, and write `results.md`, `results.csv`, `costs.md` and figures.

    Every page of `experiment.pages` has a file of its own: `phase.md`, `curves.md`, `latents.md`.

    Args:
        experiment: What is compared.
        output: Folder of the benchmark; an interrupted one goes on.
        jobs: Number of processes.
        on_progress: Called with a task, units done and units in all.

    Returns:
        Tables, notes and files.

    Raises:
        ConfigError: A condition, system or number is unknown or out of its range.
        DataError: A corpus lacks something, or `output` holds another benchmark.
        AudioError: A file cannot be read.
    """
    rows, left_out = _rows(experiment.systems)
    if len(set(experiment.conditions)) < len(experiment.conditions):
        raise ConfigError(f"found the conditions {', '.join(experiment.conditions)}, expected each of them once")
    if not experiment.seeds or len(set(experiment.seeds)) < len(experiment.seeds):
        raise ConfigError(f"found the seeds {experiment.seeds}, expected one or more that differ")
    if unknown := sorted(set(experiment.pages) - PAGES.keys()):
        raise ConfigError(f"found the page {unknown[0]!r}, expected one of {', '.join(PAGES)}")
    if jobs < 1:
        raise ConfigError(f"found {jobs} jobs, expected 1 or more")
    settings = {name: _settings(name, experiment) for row in rows if (name := SYSTEMS[row].settings) is not None}
    sources, unusable = _sources(experiment.sources)
    with _only_one(output):
        with interruption.noted(lambda: f"what is finished is kept in {output}: the same command goes on from there"):
            folder, seed = output / "protocol", experiment.protocol_seed
            protocols = [
                protocol.build(sources, name, experiment.counts, folder, seed, progress=on_progress)
                for name in experiment.conditions
            ]
        outcome = run.run(protocols, rows, experiment.seeds, settings, output, jobs=jobs, on_progress=on_progress)
        notes = [*_notes(experiment, protocols, settings), *_undefined(outcome), *left_out, *unusable]
        written = _write(
            outcome,
            protocols,
            rows=rows,
            settings=settings,
            ablation_seed=experiment.seeds[0],
            notes=notes,
            output=output,
        )
        about = _About(experiment, protocols, rows, settings, notes, output, jobs, on_progress)
        pages = [path for name in PAGES if name in experiment.pages for path in PAGES[name](about, outcome)]
        return dataclasses.replace(written, files=[*written.files, *pages])


@dataclass(frozen=True)
class _About:
    """What the pages are written of."""

    experiment: Experiment
    protocols: Sequence[Protocol]
    rows: Sequence[str]
    settings: Mapping[str, ExperimentSettings]
    notes: Sequence[str]
    output: Path
    jobs: int
    on_progress: Progress | None

    def trainings(self, rows: Sequence[str], seeds: Sequence[int]) -> dict[tuple[str, str, int], Training]:
        """The finished trainings of these rows."""
        return run.plan_trainings(self.protocols, rows, seeds, self.settings, self.output)

    @property
    def trained(self) -> dict[str, str]:
        """Labels of the rows that are trained here."""
        entries = {row: SYSTEMS[row] for row in self.rows}
        return {row: e.label for row, e in entries.items() if e.settings is not None and not e.ceiling}


def _write_phase(about: _About, outcome: Outcome) -> list[Path]:
    wanted = [study.JOINT] if study.JOINT in about.rows else []
    trainings = about.trainings(wanted, about.experiment.seeds[:1])
    joint = {condition: training.checkpoint for (condition, _, _), training in trainings.items()}
    studies = {}
    for each in about.protocols:
        name = each.condition.name
        studies[name] = study.run(
            each, joint.get(name), about.output / "phase" / name, jobs=about.jobs, on_progress=about.on_progress
        )
    notes = _phase_notes(about.experiment, about.protocols, with_joint=bool(joint))
    return page.write(studies, outcome.of(UNPROCESSED), notes, about.output)


def _write_curves(about: _About, outcome: Outcome) -> list[Path]:
    trainings = about.trainings(list(about.trained), about.experiment.seeds)
    kept = run.score_kept(trainings, about.output, jobs=about.jobs, on_progress=about.on_progress)
    if not kept:
        raise DataError(
            f"found no networks that a training in {about.output} kept on its way, expected some for curves.md: name "
            "systems that are trained; if an older version has trained them, give another folder"
        )
    reached = _with_ends(kept, outcome, trainings)
    return curves.write(reached, outcome.of(UNPROCESSED), about.trained, about.notes, about.output)


def _write_latents(about: _About, _: Outcome) -> list[Path]:
    from sspd2023 import latents  # it needs torch

    trainings = about.trainings(list(about.trained), about.experiment.seeds[:1])
    studies = {}
    with named("encoding the test mixtures", about.on_progress):
        for protocol_ in about.protocols:
            name = protocol_.condition.name
            finished = {row: each.checkpoint for (where, row, _), each in trainings.items() if where == name}
            studies[name] = latents.study(protocol_.tests, finished)
    return latents.write(studies, about.trained, about.notes, about.output)


PAGES: dict[str, Callable[[_About, Outcome], list[Path]]] = {
    "phase": _write_phase,
    "curves": _write_curves,
    "latents": _write_latents,
}
"""Pages beside the tables, by name."""


def _with_ends(
    kept: Mapping[int, Sequence[Result]], outcome: Outcome, trainings: Mapping[tuple[str, str, int], Training]
) -> dict[int, list[Result]]:
    """Results of the kept networks, and of the finished ones on the same mixtures, by steps of the last stage."""
    mixtures = {(result.condition, result.file) for results in kept.values() for result in results}
    by_steps = {steps: list(results) for steps, results in kept.items()}
    for result in outcome.results:
        whose = (result.condition, result.system, result.seed)
        if (result.condition, result.file) in mixtures and result.seed is not None and whose in trainings:
            steps = trainings[result.condition, result.system, result.seed].last_stage_steps
            by_steps.setdefault(steps, []).append(result)
    return dict(sorted(by_steps.items()))


@contextlib.contextmanager
def _only_one(output: Path) -> Iterator[None]:
    """Hold a benchmark's folder, which must be new or a benchmark's."""
    from filelock import FileLock, Timeout

    try:
        if output.is_dir() and any(output.iterdir()) and not (output / "protocol").exists():
            raise DataError(f"found files in {output} that are no benchmark, expected a new folder: choose another")
        output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(output / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"found another benchmark at work in {output}: wait for it, or choose another folder"
        ) from error
    except OSError as error:
        raise DataError(
            f"found no folder to write to at {output} ({error.strerror or error}): choose another"
        ) from error
    with lock:
        yield


def _rows(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rows in the order of the tables, and a sentence for each peer that is not installed."""
    sets = {
        "main": [row for row, entry in SYSTEMS.items() if entry.main],
        "ablations": [*_BESIDE_ABLATIONS, *(row for row, entry in SYSTEMS.items() if not entry.main)],
        "all": list(SYSTEMS),
    }
    wanted = {row for name in names for row in sets.get(name, [name])} | {"unprocessed"}
    if unknown := sorted(wanted - SYSTEMS.keys()):
        raise ConfigError(f"found the system {unknown[0]!r}, expected one of {', '.join([*sets, *SYSTEMS])}")
    chosen = [row for row in SYSTEMS if row in wanted]
    missing = [row for row in chosen if SYSTEMS[row].missing]
    sentences = [
        f"{SYSTEMS[row].label} is left out: its package is not installed; run `pip install 'sottovoce[peers]'`."
        for row in missing
    ]
    return [row for row in chosen if row not in missing], sentences


def _settings(name: str, experiment: Experiment) -> ExperimentSettings:
    settings = load_row(name)
    # The table names what was trained on: all of it. The health checks then use the training's recordings.
    data: dict[str, object] = {**dict(experiment.clips), "workers": 0, "held_back_share": 0.0}
    if experiment.clips and settings.training.data.simulated_clips:
        data["simulated_clips"] = dict(experiment.clips)["speech_clips"]
    update: dict[str, object] = {"data": data}
    if experiment.steps is not None:
        if min(experiment.steps) < 1:
            raise ConfigError(f"found the steps {experiment.steps}, expected 1 or more for each stage")
        speech_steps, joint_steps = experiment.steps
        update |= {"speech_steps": speech_steps, "joint_steps": joint_steps}
    return changed(settings, {"training": update}, "--steps")


def _sources(names: SourceNames) -> tuple[Sources, list[str]]:
    """All corpora, and a sentence for every file that cannot be used."""
    if names == SourceNames():
        names = _examples()
    if not (names.speech and names.noise):
        raise ConfigError("found no speech or no noise, expected both: give --speech and --noise, and --rooms")
    unusable: list[str] = []

    def read(arguments: Sequence[str], holds: Kind) -> Manifest | None:
        manifests = [read_corpus(argument, holds) for argument in arguments]
        unusable.extend(f"left out: {file.reason}" for manifest in manifests for file in manifest.unusable)
        return Manifest(tuple(r for manifest in manifests for r in manifest.recordings)) if manifests else None

    speech, noise = read(names.speech, "speech"), read(names.noise, "noise")
    assert speech is not None
    assert noise is not None
    sources = Sources(
        speech,
        noise,
        read(names.rooms, "rooms"),
        read(names.test_speech, "speech"),
        read(names.test_noise, "noise"),
        read(names.test_rooms, "rooms"),
    )
    return sources, unusable


def _examples() -> SourceNames:
    """The recordings of a checkout; an installed package has none."""
    examples = Path(__file__).parents[4] / "examples"
    if not (examples / "benchmark").is_dir():
        raise DataError("found no corpora, and no examples beside this package: give --speech, --noise and --rooms")
    return SourceNames(
        (str(examples / "unpaired" / "speech"),),
        (str(examples / "benchmark" / "noise"),),
        (str(examples / "benchmark" / "rooms"),),
    )


def _notes(
    experiment: Experiment, protocols: Sequence[Protocol], settings: Mapping[str, ExperimentSettings]
) -> list[str]:
    counts = experiment.counts
    signals = [audio.probe(path) for path in audio.find_audio(protocols[0].speech)]
    minutes = sum(signal.seconds for signal in signals) / 60.0
    notes = [
        f"{len(signals)} clean signals of up to {counts.clean_seconds:g} s ({minutes:.1f} minutes), {counts.mixtures} "
        f"training mixtures of {counts.mixture_seconds:g} s and {counts.test_mixtures} test mixtures of "
        f"{counts.test_seconds:g} s per condition; seed {experiment.protocol_seed}. "
        "The published experiment has 28, 392 and 140, minutes long each.",
        f"Seeds of the trainings: {', '.join(map(str, experiment.seeds))}; of ablations and ceilings: "
        f"{experiment.seeds[0]}.",
    ]
    notes += _conditions(protocols)
    from sspd2023.training import stage_steps

    budgets: dict[str, list[str]] = {}
    for trained in settings.values():
        steps = " + ".join(map(str, stage_steps(trained).values()))
        clip_seconds = trained.training.data.clip_seconds
        budget = f"{steps} steps, clips of {clip_seconds:g} s, hop {trained.frontend.hop}"
        budgets.setdefault(budget, []).append(trained.name)
    notes += [f"Budget of {', '.join(names)}: {budget}." for budget, names in budgets.items()]
    if budgets:
        notes.append("The published system has 35000 + 75000 steps and hop 32.")
    if experiment.clips:
        notes.append("Scaled down for a quick look: the scores mean nothing.")
    return notes


def _undefined(outcome: Outcome) -> list[str]:
    """A sentence for each training whose outputs have no scores at all."""
    defined: dict[tuple[str, int | None, str], bool] = {}
    for result in outcome.results:
        whose = (SYSTEMS[result.system].label, result.seed, result.condition)
        defined[whose] = defined.get(whose, False) or not all(map(math.isnan, dataclasses.astuple(result.scores)))
    return [
        f"{label}, seed {seed}: nothing that it gives in `{condition}` has a score, since its training diverged; the "
        "row is undefined wherever this seed counts."
        for (label, seed, condition), any_score in defined.items()
        if not any_score
    ]


def _phase_notes(experiment: Experiment, protocols: Sequence[Protocol], *, with_joint: bool) -> list[str]:
    counts = experiment.counts
    notes = [
        f"{counts.test_mixtures} test mixtures of {counts.test_seconds:g} s per condition, at "
        f"{', '.join(f'{snr_db:g}' for snr_db in counts.snr_db)} dB in turn; seed {experiment.protocol_seed}.",
        *_conditions(protocols),
    ]
    if not with_joint:
        notes.append("The decoders of the poster's system are left out: the row `joint` was not trained.")
    return notes


def _conditions(protocols: Sequence[Protocol]) -> list[str]:
    return [
        f"`{each.condition.name}`: {each.condition.description} The test has {each.test_speakers} speakers and "
        f"{each.test_noise_kinds} kinds of noise."
        for each in protocols
    ]


def _write(
    outcome: Outcome,
    protocols: Sequence[Protocol],
    *,
    rows: Sequence[str],
    settings: Mapping[str, ExperimentSettings],
    ablation_seed: int,
    notes: list[str],
    output: Path,
) -> Report:
    labels = {row: SYSTEMS[row].label for row in rows if SYSTEMS[row].main}
    ablations = {row: SYSTEMS[row].label for row in rows if not SYSTEMS[row].main}
    if ablations:
        ablations = {row: labels[row] for row in _BESIDE_ABLATIONS if row in labels} | ablations
    pairs = [(one, other) for one, other in _PAIRS if one in labels and other in labels]
    pairs += [(row, "unprocessed") for row in labels if SYSTEMS[row].settings is not None and not SYSTEMS[row].ceiling]
    facts = {
        row: Facts(_LEARNED_FROM[entry.supervision], run.parameters(entry, settings.get(entry.settings or "")))
        for row, entry in SYSTEMS.items()
        if row in labels | ablations
    }
    texts = {
        "results.md": report.to_markdown(
            outcome.results,
            labels,
            pairs=pairs,
            facts=facts,
            ablations=ablations,
            ablation_pairs=[pair for pair in _ABLATION_PAIRS if set(pair) <= ablations.keys()],
            ablation_seed=ablation_seed,
            notes=notes,
        ),
        "results.csv": to_csv(outcome.results),
        "costs.md": report.costs_to_markdown(outcome.costs, labels | ablations, notes=[_COST_NOTE]),
    }
    files = [output / name for name in texts]
    (output / "figures").mkdir(exist_ok=True)
    for path, text in zip(files, texts.values(), strict=True):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    summary = Summary(outcome.results)
    tables = {}
    for each in protocols:
        name = each.condition.name
        tables[f"{name}: means ± 95 % over {summary.count(name)} mixtures"] = report.means_table(
            summary, name, labels | ablations, report.ABLATED
        )
        shown = {row: labels[row] for row in _SHOWN if row in labels}
        drawn = {
            "pesq_nb_raw": figures.score_bars(summary, name, labels, "pesq_nb_raw"),
            "covl": figures.score_bars(summary, name, labels, "covl"),
            "spectrograms": _panels(each, labels, outcome),
        }
        if shown:
            drawn["before_after"] = figures.before_after(summary, name, shown)
        for title, figure in drawn.items():
            files.append(output / "figures" / f"{name}_{title}.png")
            plots.save(figure, files[-1])
    return Report(tables, notes, files)


_COST_NOTE = (
    "CPU seconds of one thread for a second of sound, whole signals, before any export; measured while other processes "
    "ran, so good to a factor of two. The bundled model runs as it is shipped."
)


def _panels(each: Protocol, labels: Mapping[str, str], outcome: Outcome) -> "Figure":
    """Spectrograms of one mixture at the middle ratio, clean, noisy and by each system."""
    condition = each.condition.name
    files = {test: outcome.audible.get((condition, next(iter(labels)), test.name)) for test in each.tests}
    kept = sorted((test for test, path in files.items() if path is not None), key=lambda test: test.snr_db)
    test = kept[len(kept) // 2]
    paths = {"clean": test.clean} | {label: outcome.audible[condition, row, test.name] for row, label in labels.items()}
    signals = []
    for label, path in paths.items():
        waveform, rate = audio.read(path)
        signals.append((label, waveform[0], rate))
    return figures.spectrograms(signals)
