"""Trains and scores systems under conditions: in parallel, resumable, cached by content."""

import functools
import hashlib
import json
import logging
import math
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sottovoce import interruption
from sottovoce.atomic import replacing
from sottovoce.config import changed, dump_settings
from sottovoce.errors import DataError
from sottovoce.metrics.scores import MEASURES, Scores, score
from sottovoce.progress import Progress
from sottovoce.signal import audio
from sottovoce.signal.resampling import resample
from sspd2023.baselines.system import SAMPLE_RATE, System
from sspd2023.protocol import Protocol, TestMixture
from sspd2023.results import Cost, Result
from sspd2023.settings import ExperimentSettings
from sspd2023.systems import SYSTEMS, Entry

if TYPE_CHECKING:
    from sottovoce.models.joint import JointSystem
    from sspd2023.baselines.network import Baseline

_log = logging.getLogger(f"sottovoce.{__name__}")  # commands print what the product's log says

# What a result depends on: another version of it is another cache, and so is a package that is missing.
_TRAINING_PACKAGES = ("sottovoce", "numpy", "torch")
SCORING_PACKAGES = ("sottovoce", "numpy", "scipy", "torch", "onnxruntime", "pesq", "pystoi", "speechmos")

CURVE_MIXTURES = 48
"""Test mixtures that learning curves are made of: the first ones."""

_UNDEFINED = Scores(**dict.fromkeys(MEASURES, math.nan))
_CHUNK = 20  # Mixtures that one process scores before it takes the next task.
_POLL_SECONDS = 0.5

_messages: "Queue[tuple[str, int | str]] | None" = None
_stop: Event | None = None


@dataclass(frozen=True)
class Training:
    """A system to be trained on the training part of a protocol.

    Attributes:
        settings: All settings, with their seed.
        protocol: Whose training part it is trained on.
        folder: Of the run, named by everything that the result depends on.
    """

    settings: ExperimentSettings
    protocol: Protocol
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Written when the training is finished."""
        return self.folder / "checkpoint.safetensors"

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        from sspd2023.training import stage_steps

        return sum(stage_steps(self.settings).values())

    @property
    def last_stage_steps(self) -> int:
        """Steps of the last stage."""
        from sspd2023.training import stage_steps

        return list(stage_steps(self.settings).values())[-1]

    def steps_saved(self) -> dict[str, int]:
        """Steps that are not made again, by stage."""
        from sottovoce.training.saved import FINISHED, newest_checkpoint, step_of
        from sspd2023.training import stage_steps

        saved = {}
        for stage, count in stage_steps(self.settings).items():
            folder = self.folder / "stages" / stage
            newest = newest_checkpoint(folder)
            saved[stage] = count if (folder / FINISHED).exists() else step_of(newest) if newest is not None else 0
        return saved


@dataclass(frozen=True)
class Scoring:
    """Some test mixtures of a condition to be enhanced by a system and scored.

    Attributes:
        system: Name of the row.
        seed: Of the training; None without.
        condition: Name of the condition.
        tests: The mixtures.
        checkpoint: Of the trained networks; None without.
        table: Where the scores are kept, named by everything that they depend on.
        audible: Files of the sound that is kept, to listen to and to draw, by name of the mixture.
    """

    system: str
    seed: int | None
    condition: str
    tests: tuple[TestMixture, ...]
    checkpoint: Path | None
    table: Path
    audible: dict[str, Path]

    def missing(self) -> list[TestMixture]:
        """Mixtures whose scores, or whose sound if that is to be kept, are not there yet."""
        scored = {line["file"] for line in _read_table(self.table)}
        return [test for test in self.tests if test.name not in scored or not _there(self.audible.get(test.name))]


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    Attributes:
        results: One per system, seed, condition and test mixture.
        costs: One per system.
        audible: Files of sound to listen to and to draw, by condition, system and mixture; of the first seed.
    """

    results: list[Result]
    costs: list[Cost]
    audible: dict[tuple[str, str, str], Path]

    def of(self, system: str) -> list[Result]:
        """Results of one system."""
        return [result for result in self.results if result.system == system]


def plan_trainings(
    protocols: Sequence[Protocol],
    systems: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, ExperimentSettings],
    folder: Path,
) -> dict[tuple[str, str, int], Training]:
    """Which trainings the rows need; conditions with equal training data, and rows with equal settings, share one.

    Args:
        protocols: The conditions.
        systems: Names of rows.
        seeds: Seeds of the main rows; the first one serves ablations and ceilings.
        settings: Settings by the name that `SYSTEMS` gives.
        folder: The benchmark's folder.

    Returns:
        By condition, row and seed.
    """
    trainings = {}
    for protocol in protocols:
        for system in systems:
            name = SYSTEMS[system].settings
            for seed in SYSTEMS[system].seeds(seeds):
                if name is None or seed is None:
                    continue
                seeded = changed(settings[name], {"training": {"seed": seed}}, "--seeds")
                key = digest(dump_settings(seeded), protocol.training_fingerprint, *versions(_TRAINING_PACKAGES))
                run = folder / "systems" / f"{seeded.name}-{seed}-{key}"
                trainings[protocol.condition.name, system, seed] = Training(seeded, protocol, run)
    return trainings


def run(
    protocols: Sequence[Protocol],
    systems: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, ExperimentSettings],
    folder: Path,
    *,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Outcome:
    """Train what needs training, then enhance and score every test mixture; what is done already is not done again.

    Args:
        protocols: The conditions.
        systems: Names of rows, of `SYSTEMS`.
        seeds: Seeds of the trainings.
        settings: Settings by the name that `SYSTEMS` gives.
        folder: Where runs and scores are kept; the same folder goes on with an interrupted benchmark.
        jobs: Number of processes, each of one thread.
        on_progress: Called with a task ("training" or "scoring"), units done and units in all.

    Returns:
        All results, in the order of conditions, systems, seeds and mixtures, and costs.

    Raises:
        DataError: A task failed, or a process ended abruptly; what is done is kept.
    """
    trainings = plan_trainings(protocols, systems, seeds, settings, folder)
    scorings: list[Scoring] = []
    for protocol in protocols:
        for system in systems:
            for seed in SYSTEMS[system].seeds(seeds):
                training = None if seed is None else trainings[protocol.condition.name, system, seed]
                scorings += _scorings(protocol, system, seed, training, folder, first=seed in (None, seeds[0]))
    _carry_out(list({t.folder: t for t in trainings.values()}.values()), scorings, folder, jobs, on_progress)
    return _collect(scorings, trainings)


def score_kept(
    trainings: Mapping[tuple[str, str, int], Training],
    folder: Path,
    *,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> dict[int, list[Result]]:
    """Score the networks that finished trainings kept on their way, on the first of the test mixtures.

    Args:
        trainings: By condition, row and seed, as `plan_trainings` gives them.
        folder: The benchmark's folder.
        jobs: Number of processes, each of one thread.
        on_progress: Called with a task ("scoring"), units done and units in all.

    Returns:
        Results by the steps of the last stage behind them, ascending.

    Raises:
        DataError: A task failed, or a process ended abruptly; what is done is kept.
    """
    from sspd2023.training import kept_networks

    by_steps: dict[int, list[Scoring]] = {}
    for (_, system, seed), training in trainings.items():
        for steps, kept in kept_networks(training.folder).items():
            scorings = _scorings(training.protocol, system, seed, training, folder, kept=kept)
            by_steps.setdefault(steps, []).extend(scorings)
    _carry_out([], [each for portions in by_steps.values() for each in portions], folder, jobs, on_progress)
    return {steps: list(_results(by_steps[steps])) for steps in sorted(by_steps)}


def _carry_out(
    trainings: list[Training], scorings: list[Scoring], folder: Path, jobs: int, on_progress: Progress | None
) -> None:
    """Do what is not done yet; trainings are distinct."""
    tracker = _Tracker(trainings, scorings, on_progress)
    if tracker.has_begun:
        _log.warning("going on in %s: %s", folder, tracker.done())
    with interruption.noted(lambda: f"{tracker.done()} in {folder}: the same command goes on from there"):
        failures = _execute(trainings, scorings, jobs, tracker)
    if failures:
        raise DataError(
            f"found {len(failures)} tasks that failed, the first: {failures[0]}; all others are done and kept: repeat "
            "the command, or leave these systems out"
        )


def _scorings(
    protocol: Protocol,
    system: str,
    seed: int | None,
    training: Training | None,
    folder: Path,
    *,
    first: bool = False,
    kept: Path | None = None,
) -> Iterator[Scoring]:
    """Portions of the test mixtures; with the first seed, some of the sound stays. Networks on their way have fewer."""
    entry = SYSTEMS[system]
    origin = [] if training is None else [training.folder.name]
    origin += [] if kept is None else [kept.name]
    origin += [file_hash(entry.model)] if entry.model is not None else []
    origin += versions([*SCORING_PACKAGES, *([entry.package] if entry.package else [])])
    checkpoint = training.checkpoint if training is not None and kept is None else kept
    audible = {test.snr_db: test.name for test in reversed(protocol.tests)}.values() if first else ()
    scored = protocol.tests if kept is None else protocol.tests[:CURVE_MIXTURES]
    for start in range(0, len(scored), _CHUNK):
        tests = scored[start : start + _CHUNK]
        key = digest(
            system, *origin, *(f"{test.name} {file_hash(test.noisy)} {file_hash(test.clean)}" for test in tests)
        )
        yield Scoring(
            system,
            seed,
            protocol.condition.name,
            tests,
            checkpoint,
            folder / "scores" / f"{system}-{key}.jsonl",
            {
                test.name: folder / "listening" / protocol.condition.name / f"{system}-{key}" / f"{test.name}.flac"
                for test in tests
                if test.name in audible
            },
        )


class _Tracker:
    """Adds up what the processes report."""

    def __init__(self, trainings: list[Training], scorings: list[Scoring], report: Progress | None) -> None:
        distinct = {training.folder: training for training in trainings}.values()
        self._total = {
            "training": sum(training.steps for training in distinct),
            "scoring": sum(len(scoring.tests) for scoring in scorings),
        }
        self._done = {
            "training": sum(sum(training.steps_saved().values()) for training in distinct),
            "scoring": sum(len(scoring.tests) - len(scoring.missing()) for scoring in scorings),
        }
        self._report = report
        self._warned: set[str] = set()

    def warn(self, text: str) -> None:
        """Pass a warning on, once: all trainings look at the same recordings."""
        if text not in self._warned:
            _log.warning("%s", text)
        self._warned.add(text)

    @property
    def has_begun(self) -> bool:
        """Whether anything is done."""
        return any(self._done.values())

    def done(self) -> str:
        """What is done, half a sentence."""
        steps, scores = (f"{self._done[task]} of {self._total[task]}" for task in ("training", "scoring"))
        return f"{steps} steps of training and {scores} scores are saved"

    def add(self, task: str, units: int) -> None:
        """Count what was done."""
        self._done[task] = min(self._done[task] + units, self._total[task])
        if self._report is not None:
            self._report(task, self._done[task], self._total[task])


def _execute(trainings: list[Training], scorings: list[Scoring], jobs: int, tracker: _Tracker) -> list[str]:
    """Trainings first, since they take longest; a system is scored as soon as it is trained.

    Returns:
        A sentence for each task that failed; all others are finished.
    """
    untrained = [training for training in trainings if not training.checkpoint.exists()]
    unscored = [scoring for scoring in scorings if scoring.missing()]
    waiting = {training.checkpoint for training in untrained}
    failures: list[str] = []
    if not untrained and not unscored:
        return failures
    context = get_context("spawn")
    with interruption.blocked():  # this starts a process as well
        messages: Queue[tuple[str, int | str]] = context.Queue()
        stop = context.Event()
    arguments = (messages, stop, os.getpid())
    with interruption.process_pool(jobs, _begin, arguments) as pool:
        futures: dict[Future[None], Training | Scoring] = {}

        def submit(tasks: Iterable[Training | Scoring]) -> None:
            with interruption.blocked():  # this may start a process
                futures.update({pool.submit(_work, task): task for task in tasks})

        try:
            submit(untrained)
            submit(s for s in unscored if s.checkpoint not in waiting)
            while futures:
                interruption.raise_lost()
                done, _ = wait(futures, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    task = futures.pop(future)
                    problem = future.exception()
                    if isinstance(problem, BrokenProcessPool):
                        raise problem
                    if problem is not None:
                        what = task.folder.name if isinstance(task, Training) else f"scoring of {task.system}"
                        failures.append(f"{what}: {problem or type(problem).__name__}")
                    elif isinstance(task, Training):
                        submit(s for s in unscored if s.checkpoint == task.checkpoint)
                _drain(messages, tracker)
        except BrokenProcessPool as error:
            raise DataError(
                "a process of the benchmark ended abruptly, perhaps for want of memory: repeat the same command, which "
                "goes on where it stopped, with fewer jobs"
            ) from error
        except KeyboardInterrupt:
            stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            _drain(messages, tracker)
    return failures


def _drain(messages: "Queue[tuple[str, int | str]]", tracker: _Tracker) -> None:
    try:
        while True:
            task, message = messages.get_nowait()
            if isinstance(message, int):
                tracker.add(task, message)
            else:
                tracker.warn(message)
    except Empty:
        return


def _begin(messages: "Queue[tuple[str, int | str]]", stop: Event, parent: int) -> None:
    """Set a process up: it reports what it does, stops when it is asked to, and ends with its parent."""
    global _messages, _stop
    _messages, _stop = messages, stop
    interruption.leave_to_parent()
    # A pool's processes outlive a parent that was killed, and would go on in folders that its successor uses.
    interruption.end_with_parent(parent)


def _work(task: Training | Scoring) -> None:
    """Do a task; between two steps, it stops as if a signal had asked it to."""
    with interruption.raised([signal.SIGTERM]):
        _heed_stop()
        if isinstance(task, Training):
            _train(task)
        else:
            _score(task)


def _heed_stop() -> None:
    if _stop is not None and _stop.is_set():
        signal.raise_signal(signal.SIGTERM)


def _report(task: str, message: int | str) -> None:
    if _messages is not None:
        _messages.put((task, message))
    _heed_stop()


class _Warnings(logging.Handler):
    """Sends warnings of a training to who started it."""

    def emit(self, record: logging.LogRecord) -> None:
        _report("training", record.getMessage())


def _train(task: Training) -> None:
    import torch

    from sspd2023.training import train_system

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    log = logging.getLogger("sottovoce")
    log.handlers, log.propagate = [_Warnings(logging.WARNING)], False
    protocol = task.protocol
    clean = protocol.clean if task.settings.pairs else None
    reported: dict[str, float] = {f"{stage} stage": steps for stage, steps in task.steps_saved().items()}

    def report(task: str, done: float, total: float, note: str = "") -> None:
        _report("training", round(done - reported.get(task, 0)))
        reported[task] = done

    train_system(protocol.speech, protocol.mixtures, task.folder, task.settings, clean=clean, on_progress=report)


def _score(task: Scoring) -> None:
    entry = SYSTEMS[task.system]
    network = None if task.checkpoint is None else load_network(task.checkpoint)
    kept = _read_table(task.table)
    scored = {line["file"] for line in kept}
    missing = task.missing()
    task.table.parent.mkdir(parents=True, exist_ok=True)
    # An interrupted run leaves at most one cut line, which is not kept.
    with replacing(task.table) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    with task.table.open("a", encoding="utf-8") as table:
        for test in missing:
            noisy, clean = (read_signal(path) for path in (test.noisy, test.clean))
            system = build(entry, network, clean)
            start = time.process_time()
            enhanced = system.enhance(noisy, SAMPLE_RATE)
            cpu_seconds = time.process_time() - start
            finite = bool(np.isfinite(enhanced).all())  # networks of a training that diverged give anything
            if test.name in task.audible:
                _keep(task.audible[test.name], enhanced if finite else np.zeros_like(enhanced))
            if test.name not in scored:
                line = {
                    "file": test.name,
                    "scores": asdict(score(clean, enhanced) if finite else _UNDEFINED),
                    "cpu_seconds": cpu_seconds,
                    "seconds": len(noisy) / SAMPLE_RATE,
                }
                table.write(json.dumps(line) + "\n")
                table.flush()
            _report("scoring", 1)


def build(entry: Entry, network: "JointSystem | Baseline | None", reference: NDArray[np.float32]) -> System:
    """The system of a row, ready for one mixture.

    Args:
        entry: The row.
        network: Its trained networks in evaluation mode; None for a row without training.
        reference: Clean speech of the mixture `(samples,)`, which only oracles and ceilings look at.

    Returns:
        The system.
    """
    from sottovoce.models.joint import JointSystem
    from sspd2023.networks import Network, SpeechCeiling

    if entry.make is not None:
        return entry.make(reference)
    assert network is not None
    if entry.ceiling:
        assert isinstance(network, JointSystem)
        return SpeechCeiling(network, reference)
    return Network(network)


def load_network(checkpoint: Path) -> "JointSystem | Baseline":
    """Networks of a training, ready to be used in a process of one thread.

    Args:
        checkpoint: What the training wrote.

    Returns:
        The networks in evaluation mode.

    Raises:
        ModelError: The file is missing, foreign or cut.
    """
    import torch

    from sspd2023.training import load_system

    torch.set_num_threads(1)
    return load_system(checkpoint)[0]


def read_signal(path: Path) -> NDArray[np.float32]:
    """First channel of a file at the rate of the comparison, `(samples,)`."""
    waveform, rate = audio.read(path)
    return resample(waveform[0], rate, SAMPLE_RATE)


def _keep(path: Path, waveform: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with audio.Writer(path, SAMPLE_RATE, 1, overwrite=True) as writer:
        writer.write(np.clip(waveform, -1.0, 1.0)[np.newaxis])


def _there(path: Path | None) -> bool:
    return path is None or path.exists()


def _read_table(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a table of scores, or none where there is no table yet."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _collect(scorings: list[Scoring], trainings: dict[tuple[str, str, int], Training]) -> Outcome:
    spent: dict[str, list[float]] = {}
    for scoring in scorings:
        lines = {line["file"]: line for line in _read_table(scoring.table)}
        sums = spent.setdefault(scoring.system, [0.0, 0.0])
        for test in scoring.tests:
            sums[0] += lines[test.name]["cpu_seconds"]
            sums[1] += lines[test.name]["seconds"]
    settings = {system: training.settings for (_, system, _), training in trainings.items()}
    costs = [
        Cost(system, parameters(SYSTEMS[system], settings.get(system)), cpu / seconds)
        for system, (cpu, seconds) in spent.items()
    ]
    audible = {(s.condition, s.system, name): path for s in scorings for name, path in s.audible.items()}
    return Outcome(list(_results(scorings)), costs, audible)


def _results(scorings: Iterable[Scoring]) -> Iterator[Result]:
    """Scores of all mixtures, from the tables."""
    for scoring in scorings:
        lines = {line["file"]: line for line in _read_table(scoring.table)}
        for test in scoring.tests:
            scores = Scores(**lines[test.name]["scores"])
            yield Result(scoring.condition, scoring.system, scoring.seed, test.name, test.snr_db, scores)


def parameters(entry: Entry, settings: ExperimentSettings | None) -> int | None:
    """Number of trained values that enhancing needs.

    Args:
        entry: The row.
        settings: Settings of its training; None for a row without.

    Returns:
        The number; None where nothing is trained, or where a peer's number is unknown.
    """
    if entry.model is not None:
        from sottovoce.engine.model import Model

        return Model.load(entry.model).metadata.parameters
    if settings is None:
        return None
    from sottovoce.models.joint import JointSystem, count_parameters
    from sspd2023.baselines import build_network

    network = build_network(settings)
    if entry.ceiling and isinstance(network, JointSystem):
        return count_parameters(network.speech_parts())
    return count_parameters(network.run_time_parts())


def versions(packages: Sequence[str]) -> list[str]:
    """Versions of packages, as far as they are installed."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package.replace('_', '-'))}")
        except PackageNotFoundError:
            found.append(f"{package} is missing")
    return found


def digest(*parts: str) -> str:
    """Short hash of what a result depends on."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.cache
def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
