"""Mixtures whose clean signal is known: they score the trials of a search, and no trial is trained on them.

By default nobody has to have pairs. Speakers and noisy recordings are held out of all trainings, and the noise in the
pauses of these recordings is put on the speech of these speakers: the clean signal is known because it was mixed here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce.config import SystemSettings
from sottovoce.data.corpora.folders import write_hashed
from sottovoce.data.corpora.manifest import Manifest, scan
from sottovoce.data.simulation.mixtures import TABLE, make_mixtures, read_mono
from sottovoce.errors import DataError
from sottovoce.metrics.intrusive import SAMPLE_RATE, pesq, si_sdr, stoi
from sottovoce.metrics.scores import FileScores, match, score
from sottovoce.models.joint import JointSystem
from sottovoce.progress import Progress, part
from sottovoce.signal import audio
from sottovoce.signal.resampling import resample
from sottovoce.training.preparation import TrainingData

UNPROCESSED = "unprocessed"

Measure = Literal["pesq_wb", "estoi", "si_sdr_db"]
"""What trials may be chosen by; more is better."""

MEASURES: tuple[Measure, ...] = ("pesq_wb", "estoi", "si_sdr_db")
"""What the report shows of each trial, since no measure alone is to be trusted."""

_COUNT, _SECONDS = 24, 6.0
_SNR_DB = (-5.0, 0.0, 5.0, 10.0)
_MIN_NOISE_SECONDS = 0.5

Float32Array = NDArray[np.float32]

_SCORE_ONE: dict[Measure, Callable[[Float32Array, Float32Array], float]] = {
    "pesq_wb": pesq,
    "estoi": partial(stoi, extended=True),
    "si_sdr_db": si_sdr,
}


@dataclass(frozen=True)
class Pair:
    """A mixture and the clean signal in it.

    Attributes:
        file: Name.
        noisy: Samples `(T,)` at the rate of the networks.
        clean: Samples at 16 kHz.
    """

    file: str
    noisy: Float32Array
    clean: Float32Array


@dataclass(frozen=True)
class Development:
    """What trials are scored on.

    Attributes:
        pairs: The mixtures.
        what: What they are, as a sentence.
        sample_rate: Rate of the mixtures in Hz.
    """

    pairs: tuple[Pair, ...]
    what: str
    sample_rate: int

    def unprocessed(self, measures: Sequence[str]) -> list[FileScores]:
        """Scores of the mixtures as they are."""
        return [self._scores(pair, UNPROCESSED, pair.noisy, measures) for pair in self.pairs]

    def scores(self, system: JointSystem, name: str, measures: Sequence[str]) -> list[FileScores]:
        """Scores of a system.

        Args:
            system: The system, in evaluation mode.
            name: What it is called.
            measures: Names of the measures; others that take long are NaN.

        Returns:
            The scores of every mixture.
        """
        return [self._scores(pair, name, self._enhanced(system, pair), measures) for pair in self.pairs]

    def mean(self, system: JointSystem, measure: Measure) -> float:
        """Mean of one measure, for a training on its way: other measures would take as long again.

        Args:
            system: The system, in evaluation mode.
            measure: The measure.

        Returns:
            The mean; NaN if the measure is undefined for any mixture.
        """
        score_one = _SCORE_ONE[measure]
        return float(np.mean([score_one(*self._at_16k(pair, self._enhanced(system, pair))) for pair in self.pairs]))

    @torch.no_grad()
    def _enhanced(self, system: JointSystem, pair: Pair) -> Float32Array:
        device = next(system.parameters()).device
        estimate: Float32Array = system.enhance(torch.from_numpy(pair.noisy)[None].to(device))[0].cpu().numpy()
        # A training that has diverged gives no sound, and so has no score.
        finite = np.nan_to_num(estimate, nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(finite, -1.0, 1.0)

    def _at_16k(self, pair: Pair, estimate: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Reference and estimate, of equal length."""
        resampled = resample(estimate, self.sample_rate, SAMPLE_RATE)
        samples = min(resampled.size, pair.clean.size)
        return pair.clean[:samples], resampled[:samples]

    def _scores(self, pair: Pair, name: str, estimate: Float32Array, measures: Sequence[str]) -> FileScores:
        return FileScores(pair.file, name, score(*self._at_16k(pair, estimate), measures=measures))


def of_held_out(
    data: TrainingData, folder: Path, settings: SystemSettings, on_progress: Progress | None = None
) -> Development:
    """Mix held-out noise with held-out speakers, once for all trials.

    Args:
        data: What is held out of the trainings.
        folder: Folder of the mixtures; if they are there, they are read.
        settings: What is searched around: rate, seed, share of rooms and their reverberation.
        on_progress: Called for every mixture.

    Returns:
        The mixtures.

    Raises:
        DataError: Nothing is held out, or the recordings that are have no pauses.
    """
    for held_back, trained_on, what in (
        (data.held_back_speech, data.speech, "speaker of clean speech"),
        (data.held_back_mixtures, data.mixtures, "session of noisy recordings"),
    ):
        if held_back is trained_on:
            raise DataError(
                f"found one {what} alone, expected two or more: one is held out to score the trials on; give each a "
                "sub-folder, or name pairs with --development"
            )
    mixtures, room = folder / "mixtures", settings.training.data.simulation.room
    if not (mixtures / TABLE).exists():
        make_mixtures(
            data.held_back_speech,
            _noise(data, folder / "noise"),
            mixtures,
            count=_COUNT,
            snr_db=_SNR_DB,
            seed=settings.training.seed,
            room_share=room.share,
            t60_range_seconds=room.t60_seconds,
            seconds=_SECONDS,
            target="early",
            sample_rate=settings.frontend.sample_rate,
            progress=part(on_progress, "mixing what trials are scored on"),
        )
    speakers = _counted(len(data.held_back_speech.groups), "speaker")
    sessions = _counted(len(data.held_back_mixtures.groups), "session")
    snr_db = ", ".join(f"{ratio_db:g}" for ratio_db in _SNR_DB)
    return Development(
        _read(mixtures, settings.frontend.sample_rate),
        f"{_COUNT} mixtures of {_SECONDS:g} s at {snr_db} dB: speech of {speakers} and noise from the pauses of "
        f"recordings of {sessions}, all held out of the trainings. No pair was needed: the clean signal is "
        f"known since it was mixed for this search. {room.share:.0%} are in a simulated room, whose early reflections "
        "belong to the clean signal",
        settings.frontend.sample_rate,
    )


def of_pairs(folder: Path, data: TrainingData, settings: SystemSettings) -> Development:
    """Read pairs of somebody's own.

    Args:
        folder: Has the folders `noisy` and `clean`, as `sottovoce mix` makes them.
        data: What trials are trained on.
        settings: What is searched around.

    Returns:
        The mixtures.

    Raises:
        DataError: There is no pair, or a recording is one that trials are trained on.
        AudioError: A folder is missing or a recording cannot be read.
    """
    trained_on = {
        (recording.frames, round(recording.level_db, 6))
        for manifest in (data.speech, data.mixtures, data.held_back_speech, data.held_back_mixtures)
        for recording in manifest.recordings
    }
    for recording in scan(folder).recordings:
        if (recording.frames, round(recording.level_db, 6)) in trained_on:
            raise DataError(
                f"found {recording.path} among the recordings to train on as well, expected other speakers and noises: "
                "what scores a recipe must not have taught it; take it out of one of the two"
            )
    pairs = _read(folder, settings.frontend.sample_rate)
    return Development(
        pairs,
        f"{_counted(len(pairs), 'pair')} of other recordings than those of the trainings, given by --development: they "
        "choose a recipe, and no checkpoint and no end of a training",
        settings.frontend.sample_rate,
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _noise(data: TrainingData, folder: Path) -> Manifest:
    """The noise of held-out recordings as files, a folder for each session."""
    for stretch in data.held_back_stretches:
        if stretch.seconds < _MIN_NOISE_SECONDS:
            continue
        recording = stretch.recording
        path = folder / recording.group / f"{recording.path.stem}_{stretch.start}.flac"
        if path.exists():
            continue
        waveform = read_mono(recording, recording.sample_rate, start=stretch.start, frames=stretch.frames)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_hashed(path, waveform, recording.sample_rate)
    if not folder.exists():
        raise DataError(
            f"found no pause of {_MIN_NOISE_SECONDS:g} s in the noisy recordings that are held out, expected noise "
            "without speech to score the trials on: add recordings with pauses, or name pairs with --development"
        )
    return scan(folder)


def _read(folder: Path, sample_rate: int) -> tuple[Pair, ...]:
    jobs, problems = match(folder / "clean", {UNPROCESSED: folder / "noisy"})
    if problems:
        raise DataError(problems[0])
    pairs = []
    for job in jobs:
        assert job.reference is not None
        (noisy, rate), (clean, clean_rate) = (audio.read(path) for path in (job.estimate, job.reference))
        pairs.append(Pair(job.file, resample(noisy[0], rate, sample_rate), resample(clean[0], clean_rate, SAMPLE_RATE)))
    return tuple(pairs)
