"""Noise taken from the noisy recordings themselves: the stretches in which nobody speaks."""

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.progress import TaskProgress
from sottovoce.signal import audio, levels, segments
from sottovoce.signal.resampling import resample

_WINDOW_SECONDS = 60.0
_SHORTEST_SECONDS = 0.3
_ANALYSIS_RATE = 16000  # Voices show below 5 kHz; more costs time only.
_PIECE_SECONDS = 1.0
# Tuned on simulated field recordings: of residuals that are voiced less, half hold less than a twentieth of speech.
_VOICED, _VOICED_SHARE = 0.55, 0.3
_FAINT_DB = -18.0  # A residual this far below its recording is the system's error, not noise.
# Where a system's output is this far below its loud voices, there is no speech for it. Measured on simulated recordings
# of a crowd and of insects at 0 to 15 dB: such stretches hold speech at -29 and -23 dB re the noise.
_SPEECHLESS_DB, _LOUD_PERCENTILE = 20.0, 95.0
_SPEECHLESS_SECONDS, _GUARD_SECONDS = 0.8, 0.25
_SMOOTHING_FRAMES = 5
_log = logging.getLogger(__name__)

Enhance = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Samples `(T,)` at a system's rate to speech `(T,)`."""


@dataclass(frozen=True)
class NoiseStretch:
    """A part of a recording without speech.

    Attributes:
        recording: Where it is from.
        start: First sample, at the recording's own rate.
        frames: Length in samples.
    """

    recording: Recording
    start: int
    frames: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.recording.sample_rate


def harvest(
    manifest: Manifest, *, min_seconds: float = _SHORTEST_SECONDS, progress: TaskProgress | None = None
) -> tuple[NoiseStretch, ...]:
    """Find the noise-only stretches of noisy recordings.

    Args:
        manifest: Noisy recordings.
        min_seconds: Length of the shortest stretch that is wanted.
        progress: Called with (recordings done, recordings in all) after every recording.

    Returns:
        Stretches in the order of the recordings and of time.
    """
    stretches: list[NoiseStretch] = []
    for done, recording in enumerate(manifest.recordings, start=1):
        stretches += noise_only(recording, min_seconds)
        if progress is not None:
            progress(done, len(manifest.recordings))
    _log.info(
        "%.1f s of noise in %d stretches from %.1f s of %d recordings",
        sum(stretch.seconds for stretch in stretches),
        len(stretches),
        manifest.seconds,
        len(manifest.recordings),
    )
    return tuple(stretches)


def noise_only(recording: Recording, min_seconds: float = _SHORTEST_SECONDS) -> list[NoiseStretch]:
    """Find the noise-only stretches of one noisy recording.

    A long recording is looked at in windows of about a minute: memory stays bounded, and each window has its own
    noise floor.

    Args:
        recording: A noisy recording.
        min_seconds: Length of the shortest stretch that is wanted.

    Returns:
        Stretches in the order of time. A recording without pauses, or whose voice is nowhere clear enough to
        distinguish speech from noise, gives none.
    """
    stretches: list[NoiseStretch] = []
    # Windows of equal length, so that the last one is not too short to show its floor.
    windows = max(1, math.ceil(recording.seconds / _WINDOW_SECONDS))
    edges = [recording.frames * index // windows for index in range(windows + 1)]
    for start, end in itertools.pairwise(edges):
        waveform, sample_rate = recording.read(start, end - start)
        rate = min(sample_rate, _ANALYSIS_RATE)
        mono = resample(waveform.mean(axis=0), sample_rate, rate)
        for found in segments.noise_only_stretches(mono, rate, min_seconds=min_seconds):
            first, last = (position * sample_rate // rate for position in found)
            stretches.append(NoiseStretch(recording, start + first, last - first))
    return stretches


def harvest_speechless(
    recordings: Sequence[Recording], enhance: Enhance, *, progress: TaskProgress | None = None
) -> tuple[NoiseStretch, ...]:
    """Find the stretches in which a trained system finds no speech: also in a crowd, where `harvest` finds none.

    Args:
        recordings: Mono recordings of some seconds at the system's rate, such as excerpts.
        enhance: A system that is trained already.
        progress: Called with (recordings done, recordings in all) after every recording.

    Returns:
        Stretches in the order of the recordings and of time, a quarter of a second away from speech.
    """
    stretches: list[NoiseStretch] = []
    for done, recording in enumerate(recordings, start=1):
        waveform, rate = recording.read()
        stretches += [
            NoiseStretch(recording, start, frames)
            for start, frames in _speechless(enhance(waveform.mean(axis=0)), rate)
        ]
        if progress is not None:
            progress(done, len(recordings))
    _log.info(
        "%.1f s of noise in %d recordings, where the system finds no speech",
        sum(stretch.seconds for stretch in stretches),
        len(recordings),
    )
    return tuple(stretches)


def _speechless(estimate: NDArray[np.float32], sample_rate: int) -> list[tuple[int, int]]:
    """Start and length of the runs in which an estimate of speech is far below its loud parts."""
    hop = round(segments.FRAME_SECONDS * sample_rate)
    power = levels.frame_power(estimate, hop)
    if power.size < _SMOOTHING_FRAMES:
        return []
    smooth = np.convolve(power, np.full(_SMOOTHING_FRAMES, 1.0 / _SMOOTHING_FRAMES), mode="same")
    loud = np.percentile(smooth, _LOUD_PERCENTILE)
    guard, shortest = (round(seconds / segments.FRAME_SECONDS) for seconds in (_GUARD_SECONDS, _SPEECHLESS_SECONDS))
    found = []
    for start, end in segments.runs(smooth < loud * 10.0 ** (-_SPEECHLESS_DB / 10.0)):
        if end - start >= shortest:
            first, last = (start + guard if start else 0), (end - guard if end < power.size else power.size)
            found.append((first * hop, (last - first) * hop))
    return found


def harvest_residuals(
    recordings: Sequence[Recording],
    enhance: Enhance,
    folder: Path,
    *,
    progress: TaskProgress | None = None,
) -> tuple[NoiseStretch, ...]:
    """Noise of recordings that have no pauses: what a system takes away from them, where little of it is speech.

    The residual is the recording without the system's estimate of its speech. Pieces of a second whose residual is
    voiced hold speech, or noise that is like it, and are left out; so are residuals that are faint.

    Args:
        recordings: Mono recordings of some seconds at the system's rate, such as excerpts.
        enhance: A system that is trained already.
        folder: Folder for the residuals; those that are there are not made again.
        progress: Called with (recordings done, recordings in all) after every recording.

    Returns:
        Stretches of the residuals; the group of each is that of its recording.
    """
    stretches: list[NoiseStretch] = []
    for done, recording in enumerate(recordings, start=1):
        path = folder / recording.group / f"{recording.path.stem}.flac"
        if not path.exists():
            waveform, rate = recording.read()
            mono = waveform.mean(axis=0)
            path.parent.mkdir(parents=True, exist_ok=True)
            with audio.Writer(path, rate, 1) as writer:
                writer.write(np.clip(mono - enhance(mono), -1.0, 1.0)[np.newaxis])
        waveform, rate = audio.read(path)
        residual = replace(recording, path=path, channels=1, level_db=levels.rms_db(waveform))
        if residual.level_db - recording.level_db > _FAINT_DB:
            pieces = _unvoiced_pieces(waveform[0], rate)
            stretches += [NoiseStretch(residual, start, frames) for start, frames in pieces]
        if progress is not None:
            progress(done, len(recordings))
    _log.info(
        "%.1f s of noise in what was taken away from %d recordings without pauses",
        sum(stretch.seconds for stretch in stretches),
        len(recordings),
    )
    return tuple(stretches)


def _unvoiced_pieces(residual: NDArray[np.float32], sample_rate: int) -> list[tuple[int, int]]:
    """Start and length of runs of pieces in which few frames are voiced."""
    activity = segments.voice_activity(residual, sample_rate)
    count = round(_PIECE_SECONDS / segments.FRAME_SECONDS)
    pieces = activity.voicing.size // count
    voiced = (activity.voicing[: pieces * count] > _VOICED).reshape(pieces, count).mean(axis=1)
    length = count * activity.hop
    return [(first * length, (last - first) * length) for first, last in segments.runs(voiced <= _VOICED_SHARE)]


def stationary_noise(waveform: NDArray[np.float32], samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian noise with the spectrum of a recording's quietest frames: those of its noise between words.

    Stands in for noise-only stretches where a recording has no pauses.

    Args:
        waveform: Noisy recording `(T,)`.
        samples: Wanted length.
        rng: Source of the noise.

    Returns:
        Noise `(samples,)`; its level is that of the quietest tenth of the frames.
    """
    window = 512
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, (0, window)), window)[:: window // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2
    quiet = np.quantile(power, 0.1, axis=0)
    # The response of one window to this spectrum, with zero phase, shapes white noise.
    response = np.roll(np.fft.irfft(np.sqrt(quiet / np.square(np.hanning(window)).sum())), window // 2)
    white = rng.standard_normal(samples + window)
    size = white.size + window
    shaped = np.fft.irfft(np.fft.rfft(white, size) * np.fft.rfft(response, size), size)
    return shaped[window // 2 : window // 2 + samples].astype(np.float32)
