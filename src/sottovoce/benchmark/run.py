"""Trains and scores systems under conditions: in parallel, resumable, cached by content."""

import functools
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import sottovoce
from sottovoce.atomic import replacing
from sottovoce.baselines.system import SAMPLE_RATE, System
from sottovoce.benchmark.protocol import Protocol, TestMixture
from sottovoce.benchmark.results import Cost, Result
from sottovoce.benchmark.systems import SYSTEMS, Entry
from sottovoce.config import SystemSettings, dump_settings
from sottovoce.errors import DataError
from sottovoce.metrics.scores import Scores, score
from sottovoce.signal import audio

if TYPE_CHECKING:
    from sottovoce.baselines.network import Baseline
    from sottovoce.models.joint import JointAutoencoder

Progress = Callable[[str, int, int], None]
"""Called with a task ("training" or "scoring"), units done and units in all."""

_CHUNK = 20  # Mixtures that one process scores before it takes the next task.
_POLL_SECONDS = 0.5

_messages: "Queue[tuple[str, int]] | None" = None


@dataclass(frozen=True)
class Training:
    """A system to be trained on the training part of a protocol.

    Attributes:
        name: Name of the settings.
        settings: All settings, with their seed.
        protocol: Whose training part it is trained on.
        folder: Of the run, named by everything that the result depends on.
    """

    name: str
    settings: SystemSettings
    protocol: Protocol
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Written when the training is finished."""
        return self.folder / "checkpoint.safetensors"

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        from sottovoce.training.module import stage_steps, stages

        return sum(stage_steps(self.settings, stage) for stage in stages(self.settings))


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
        listening: Folder for what is kept to be heard and drawn; None if nothing is.
    """

    system: str
    seed: int | None
    condition: str
    tests: tuple[TestMixture, ...]
    checkpoint: Path | None
    table: Path
    listening: Path | None


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    Attributes:
        results: One per system, seed, condition and test mixture.
        costs: One per system.
    """

    results: list[Result]
    costs: list[Cost]


def plan_trainings(
    protocols: Sequence[Protocol],
    systems: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, SystemSettings],
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
                training = settings[name].training.model_copy(update={"seed": seed})
                seeded = settings[name].model_copy(update={"training": training})
                key = _digest(dump_settings(seeded), protocol.training_fingerprint, sottovoce.__version__)
                run = folder / "systems" / f"{seeded.name}-{seed}-{key}"
                trainings[protocol.condition.name, system, seed] = Training(name, seeded, protocol, run)
    return trainings


def run(
    protocols: Sequence[Protocol],
    systems: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, SystemSettings],
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
        on_progress: Called with a task, units done and units in all.

    Returns:
        All results, in the order of conditions, systems, seeds and mixtures, and costs.

    Raises:
        DataError: A process ended abruptly.
    """
    trainings = plan_trainings(protocols, systems, seeds, settings, folder)
    scorings: list[Scoring] = []
    for protocol in protocols:
        for system in systems:
            for seed in SYSTEMS[system].seeds(seeds):
                training = None if seed is None else trainings[protocol.condition.name, system, seed]
                scorings += _scorings(protocol, system, seed, training, folder, first=seed in (None, seeds[0]))
    tracker = _Tracker(list(trainings.values()), scorings, on_progress)
    _execute(list({t.folder: t for t in trainings.values()}.values()), scorings, jobs, tracker)
    return _collect(scorings, trainings)


def _scorings(
    protocol: Protocol, system: str, seed: int | None, training: Training | None, folder: Path, *, first: bool
) -> Iterator[Scoring]:
    origin = training.folder.name if training is not None else sottovoce.__version__
    for start in range(0, len(protocol.tests), _CHUNK):
        tests = protocol.tests[start : start + _CHUNK]
        key = _digest(system, origin, *(f"{test.name} {_sha256(test.noisy)} {_sha256(test.clean)}" for test in tests))
        yield Scoring(
            system,
            seed,
            protocol.condition.name,
            tests,
            None if training is None else training.checkpoint,
            folder / "scores" / f"{system}-{key}.jsonl",
            folder / "listening" / protocol.condition.name if first and not start else None,
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
            "training": sum(training.steps for training in distinct if training.checkpoint.exists()),
            "scoring": sum(len(_read_table(scoring.table)) for scoring in scorings),
        }
        self._report = report

    def add(self, task: str, units: int) -> None:
        self._done[task] = min(self._done[task] + units, self._total[task])
        if self._report is not None:
            self._report(task, self._done[task], self._total[task])


def _execute(trainings: list[Training], scorings: list[Scoring], jobs: int, tracker: _Tracker) -> None:
    """Trainings first, since they take longest; a system is scored as soon as it is trained."""
    context = get_context("spawn")
    messages: Queue[tuple[str, int]] = context.Queue()
    untrained = [training for training in trainings if not training.checkpoint.exists()]
    unscored = [scoring for scoring in scorings if len(_read_table(scoring.table)) < len(scoring.tests)]
    waiting = {training.checkpoint: training for training in untrained}
    if not untrained and not unscored:
        return
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(messages, os.getpid())) as pool:
        futures: dict[Future[None], Training | None] = {pool.submit(_train, t): t for t in untrained}
        futures |= {pool.submit(_score, s): None for s in unscored if s.checkpoint not in waiting}
        try:
            while futures:
                done, _ = wait(futures, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    training = futures.pop(future)
                    future.result()
                    if training is not None:
                        ready = [s for s in unscored if s.checkpoint == training.checkpoint]
                        futures |= {pool.submit(_score, scoring): None for scoring in ready}
                _drain(messages, tracker)
        except BrokenProcessPool as error:
            raise DataError(
                "A process of the benchmark ended abruptly, perhaps for want of memory: repeat the same command, which "
                "goes on where it stopped, with fewer jobs."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    _drain(messages, tracker)


def _drain(messages: "Queue[tuple[str, int]]", tracker: _Tracker) -> None:
    try:
        while True:
            tracker.add(*messages.get_nowait())
    except Empty:
        return


def _begin(messages: "Queue[tuple[str, int]]", parent: int) -> None:
    """Set a process up: one thread, so that results are the same on any machine of its kind; and no life of its own."""
    global _messages  # noqa: PLW0603 (what a process of the pool is given at its start)
    _messages = messages

    def watch() -> None:
        # A pool's processes outlive a parent that was killed, and would go on in folders that its successor uses.
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _tell(task: str, units: int) -> None:
    if _messages is not None:
        _messages.put((task, units))


def _train(task: Training) -> None:
    import torch

    from sottovoce.training.run import fit, prepare

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("sottovoce").setLevel(logging.ERROR)  # every training would warn of the same recordings
    protocol = task.protocol
    clean = protocol.clean if task.settings.training.data.pairs else None
    task.folder.mkdir(parents=True, exist_ok=True)
    data = prepare(protocol.speech, protocol.mixtures, task.folder, task.settings, clean=clean)
    told: dict[str, int] = {}

    def tell(stage: str, step: int, *_: object) -> None:
        _tell("training", step - told.get(stage, 0))
        told[stage] = step

    fit(data, task.folder, task.settings, on_progress=tell)


def _score(task: Scoring) -> None:
    entry = SYSTEMS[task.system]
    network = None if task.checkpoint is None else _load(task.checkpoint)
    kept = _read_table(task.table)
    done = {line["file"] for line in kept}
    task.table.parent.mkdir(parents=True, exist_ok=True)
    # An interrupted run leaves at most one cut line, which is not kept.
    with replacing(task.table) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    with task.table.open("a", encoding="utf-8") as table:
        for test in task.tests:
            if test.name in done:
                continue
            noisy, clean = (_read(path) for path in (test.noisy, test.clean))
            system = build(entry, network, clean)
            start = time.process_time()
            enhanced = system.enhance(noisy, SAMPLE_RATE)
            cpu_seconds = time.process_time() - start
            if task.listening is not None and test in _one_of_each_ratio(task.tests):
                _keep(task.listening / task.system / f"{test.name}.flac", enhanced)
            scores = asdict(score(clean, enhanced))
            line = {
                "file": test.name,
                "scores": scores,
                "cpu_seconds": cpu_seconds,
                "seconds": len(noisy) / SAMPLE_RATE,
            }
            table.write(json.dumps(line) + "\n")
            table.flush()
            _tell("scoring", 1)


def build(entry: Entry, network: "JointAutoencoder | Baseline | None", reference: NDArray[np.float32]) -> System:
    """The system of a row, ready for one mixture.

    Args:
        entry: The row.
        network: Its trained networks in evaluation mode; None for a row without training.
        reference: Clean speech of the mixture `(samples,)`, which only oracles and ceilings look at.

    Returns:
        The system.
    """
    from sottovoce.benchmark.networks import Network, SpeechCeiling
    from sottovoce.models.joint import JointAutoencoder

    if entry.make is not None:
        return entry.make(reference)
    assert network is not None
    if entry.ceiling:
        assert isinstance(network, JointAutoencoder)
        return SpeechCeiling(network, reference)
    return Network(network)


def _load(checkpoint: Path) -> "JointAutoencoder | Baseline":
    import torch

    from sottovoce.baselines import build_network
    from sottovoce.models.checkpoint import read_checkpoint

    torch.set_num_threads(1)
    tensors, settings = read_checkpoint(checkpoint)
    network = build_network(settings)
    network.load_state_dict(tensors)
    return network.eval()


def _read(path: Path) -> NDArray[np.float32]:
    waveform, rate = audio.read(path)
    return audio.resample(waveform[0], rate, SAMPLE_RATE)


def _keep(path: Path, waveform: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with audio.Writer(path, SAMPLE_RATE, 1, overwrite=True) as writer:
        writer.write(np.clip(waveform, -1.0, 1.0)[np.newaxis])


def _one_of_each_ratio(tests: Sequence[TestMixture]) -> list[TestMixture]:
    return list({test.snr_db: test for test in reversed(tests)}.values())


def _read_table(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a table of scores, or none where there is no table yet."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _collect(scorings: list[Scoring], trainings: dict[tuple[str, str, int], Training]) -> Outcome:
    results: list[Result] = []
    spent: dict[str, list[float]] = {}
    for scoring in scorings:
        lines = {line["file"]: line for line in _read_table(scoring.table)}
        for test in scoring.tests:
            line = lines[test.name]
            scores = Scores(**line["scores"])
            results.append(Result(scoring.condition, scoring.system, scoring.seed, test.name, test.snr_db, scores))
            sums = spent.setdefault(scoring.system, [0.0, 0.0])
            sums[0] += line["cpu_seconds"]
            sums[1] += line["seconds"]
    parameters = {system: _parameters(training) for (_, system, _), training in trainings.items()}
    costs = [Cost(system, parameters.get(system), cpu / seconds) for system, (cpu, seconds) in spent.items()]
    return Outcome(results, costs)


def _parameters(training: Training) -> int:
    """Trained values that enhancing needs."""
    from sottovoce.baselines import build_network
    from sottovoce.models.joint import JointAutoencoder, count_parameters

    network = build_network(training.settings)
    return count_parameters(network.run_time_parts() if isinstance(network, JointAutoencoder) else [network])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
