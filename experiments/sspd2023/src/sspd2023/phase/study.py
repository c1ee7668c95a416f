"""Every amplitude with every phase, on the test mixtures of a protocol: scores, phase errors and inconsistency."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sottovoce import interruption
from sottovoce.atomic import replacing
from sottovoce.errors import DataError
from sottovoce.metrics.scores import Scores, score
from sottovoce.progress import Progress
from sottovoce.signal.stft import MultiResolutionSTFT
from sottovoce.weights import CHECKPOINTS, MODELS
from sspd2023.baselines.system import SAMPLE_RATE
from sspd2023.phase.measures import Curves, curves
from sspd2023.phase.reconstruction import Spectrum, analyse, griffin_lim, heap_integration, phasors, synthesise
from sspd2023.protocol import Protocol, TestMixture
from sspd2023.results import Result
from sspd2023.run import SCORING_PACKAGES, digest, file_hash, load_network, read_signal, versions
from sspd2023.systems import SYSTEMS

if TYPE_CHECKING:
    from sottovoce.models.joint import JointSystem

CLEAN, BUNDLED, JOINT = "clean", "default", "joint"

DECODED, CEILING = "decoded", "ceiling"

AMPLITUDES = {
    CLEAN: "clean amplitude",
    BUNDLED: "amplitude of the bundled model",
    f"{BUNDLED}_{DECODED}": "D_A",
    f"{JOINT}_{DECODED}": "D_A of joint (poster)",
}
"""What amplitudes are called, in the order of the page."""

PHASES = {
    "mixture": "mixture",
    "heap": "heap integration",
    "griffin_lim": "Griffin-Lim",
    f"{BUNDLED}_{DECODED}": "D_P",
    f"{BUNDLED}_{CEILING}": "D_P of the clean latent",
    f"{JOINT}_{DECODED}": "D_P of joint (poster)",
    f"{JOINT}_{CEILING}": "D_P of joint, clean latent",
    CLEAN: "true",
}
"""What phases are called, in the order of the page."""

STFT = MultiResolutionSTFT((1024,), 256)
"""In which amplitudes and phases are combined: the poster's longest window, and a hop of 16 ms."""

_MEASURES = ("pesq_wb", "pesq_nb", "estoi", "si_sdr_db")


@dataclass(frozen=True)
class Study:
    """What came out, in the order of the mixtures.

    Attributes:
        results: Scores; their system is the `system` of amplitude and phase.
        curves: Measures by local ratio, by amplitude and phase: one entry per mixture.
    """

    results: list[Result]
    curves: dict[tuple[str, str], list[Curves]]


@dataclass(frozen=True)
class _Task:
    """One mixture.

    Attributes:
        test: The mixture.
        joint: Checkpoint of the poster's system; None without.
        kept: File of what was measured.
    """

    test: TestMixture
    joint: Path | None
    kept: Path


def system(amplitude: str, phase: str) -> str:
    """Name of an amplitude with a phase, among the systems of results."""
    return f"{amplitude} + {phase}"


def outputs(
    noisy: NDArray[np.float32],
    clean: NDArray[np.float32],
    masked: NDArray[np.float32],
    networks: Mapping[str, "JointSystem"],
) -> Iterator[tuple[str, str, Spectrum]]:
    """Combine every amplitude with every phase.

    Args:
        noisy: Mixture `(samples,)`.
        clean: Its clean speech, aligned.
        masked: The mixture enhanced by the bundled model, aligned.
        networks: Networks that decode amplitude and phase, by name, in evaluation mode.

    Yields:
        Amplitude and phase by name, and the spectrum by `STFT`.
    """
    signals = {CLEAN: clean, BUNDLED: masked}
    for name, network in networks.items():
        signals[f"{name}_{DECODED}"] = _decoded(network, noisy)
        signals[f"{name}_{CEILING}"] = _ceiling(network, clean, noisy)
    sources = {name: analyse(STFT, signal) for name, signal in signals.items()}
    mixture = phasors(analyse(STFT, noisy))
    known = {name: phasors(source) for name, source in sources.items() if name in PHASES}
    for name, source in sources.items():
        if name not in AMPLITUDES:
            continue
        amplitude = np.abs(source)
        phases = {
            "mixture": mixture,
            "heap": heap_integration(amplitude, STFT, np.random.default_rng(0)),
            "griffin_lim": griffin_lim(amplitude, mixture, STFT, len(noisy)),
            **known,
        }
        for phase, phasor in phases.items():
            yield name, phase, amplitude * phasor


def _decoded(network: "JointSystem", noisy: NDArray[np.float32]) -> NDArray[np.float32]:
    """What D_A and D_P give for the latent of a mixture, without any mask."""
    import torch

    from sottovoce.models.blocks import Past

    with torch.no_grad():
        spectra = network.analyse(torch.from_numpy(noisy[np.newaxis]))
        level = network.level(spectra, Past())
        decoded = network.decode_speech(network.translate(spectra / level).latent)
        spectrum = network.spectrum_of(decoded, spectra[:, :, : network.bins]) * level
        signal: NDArray[np.float32] = network.stft.synthesise(spectrum, len(noisy))[0].numpy()
    return signal


def _ceiling(network: "JointSystem", clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> NDArray[np.float32]:
    """What D_A and D_P give for the latent of clean speech, D_P as a correction of the mixture's phase."""
    import torch

    speech, mixture = (torch.from_numpy(signal[np.newaxis]) for signal in (clean, noisy))
    signal: NDArray[np.float32] = network.reconstruct(speech, mixture)[0].numpy()
    return signal


def run(
    protocol: Protocol,
    joint: Path | None,
    folder: Path,
    *,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Study:
    """Combine and measure on every test mixture; what is kept of a mixture is not measured again.

    Args:
        protocol: Whose test mixtures.
        joint: Checkpoint of the poster's system, whose decoders are then combined, too; None without.
        folder: Where a file per mixture is kept.
        jobs: Number of processes, each of one thread.
        on_progress: Called with the task, mixtures done and mixtures in all.

    Returns:
        All results.

    Raises:
        DataError: A process ended abruptly; what is done is kept.
    """
    origin = [file_hash(path) for path in (MODELS[BUNDLED], CHECKPOINTS[BUNDLED], joint) if path is not None]
    origin += versions(SCORING_PACKAGES)
    tasks = [
        _Task(
            test,
            joint,
            folder / f"{test.name}-{digest(*origin, file_hash(test.noisy), file_hash(test.clean))}.json",
        )
        for test in protocol.tests
    ]
    folder.mkdir(parents=True, exist_ok=True)
    missing = [task for task in tasks if not task.kept.exists()]
    done = len(tasks) - len(missing)

    def count() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress("amplitude and phase", done, len(tasks))

    with interruption.noted(lambda: f"{done} of {len(tasks)} mixtures are kept in {folder}"):
        if jobs == 1 or len(missing) < 2:
            for task in missing:
                _measure(task)
                count()
        else:
            _measure_in_parallel(missing, jobs, count)
    return _collect(protocol.condition.name, tasks)


def _measure_in_parallel(tasks: Sequence[_Task], jobs: int, count: Callable[[], None]) -> None:
    with interruption.process_pool(min(jobs, len(tasks))) as pool:
        with interruption.blocked():
            futures = [pool.submit(_measure, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                count()
        except BrokenProcessPool as error:
            raise DataError(
                "a process ended abruptly, perhaps for want of memory: repeat the same command, which goes on where it "
                "stopped, with fewer jobs"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _measure(task: _Task) -> None:
    """Combine and measure on one mixture, and keep what was measured."""
    import torch

    torch.set_num_threads(1)
    networks = _networks(task.joint)
    noisy, clean = (read_signal(path) for path in (task.test.noisy, task.test.clean))
    bundled = SYSTEMS[BUNDLED].make
    assert bundled is not None
    masked = bundled(clean).enhance(noisy, SAMPLE_RATE)
    mixture, speech = analyse(STFT, noisy), analyse(STFT, clean)
    lines = []
    for amplitude, phase, spectrum in outputs(noisy, clean, masked, networks):
        waveform = synthesise(STFT, spectrum, len(noisy)).astype(np.float32)
        lines.append(
            {
                "amplitude": amplitude,
                "phase": phase,
                "scores": asdict(score(clean, waveform, measures=_MEASURES)),
                "curves": asdict(curves(spectrum, speech, mixture, STFT, len(noisy))),
            }
        )
    with replacing(task.kept) as temporary:
        temporary.write_text(json.dumps(lines), encoding="utf-8")


@functools.cache
def _networks(joint: Path | None) -> dict[str, "JointSystem"]:
    """Networks that decode amplitude and phase: those of the bundled model's training, and the poster's."""
    from sottovoce.models.checkpoint import load_checkpoint
    from sottovoce.models.joint import JointSystem

    networks: dict[str, JointSystem] = {BUNDLED: load_checkpoint(CHECKPOINTS[BUNDLED])[0]}
    if joint is not None:
        network = load_network(joint)
        assert isinstance(network, JointSystem)
        networks[JOINT] = network
    return networks


def _collect(condition: str, tasks: Sequence[_Task]) -> Study:
    results: list[Result] = []
    measured: dict[tuple[str, str], list[Curves]] = {}
    for task in tasks:
        for line in json.loads(task.kept.read_text(encoding="utf-8")):
            amplitude, phase = line["amplitude"], line["phase"]
            name = system(amplitude, phase)
            scores = Scores(**line["scores"])
            results.append(Result(condition, name, None, task.test.name, task.test.snr_db, scores))
            each = Curves(**{measure: tuple(values) for measure, values in line["curves"].items()})
            measured.setdefault((amplitude, phase), []).append(each)
    return Study(results, measured)
