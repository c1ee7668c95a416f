"""Noise taken from the noisy recordings themselves: the stretches in which nobody speaks."""

import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.manifest import Manifest, Recording
from sottovoce.signal import audio, segments

_WINDOW_SECONDS = 60.0
_ANALYSIS_RATE = 16000  # Voices show below 5 kHz; more costs time only.
_log = logging.getLogger(__name__)


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
    manifest: Manifest, *, min_seconds: float = 0.3, progress: Callable[[int, int], None] | None = None
) -> tuple[NoiseStretch, ...]:
    """Find the noise-only stretches of noisy recordings.

    A long recording is looked at in windows of about a minute: memory stays bounded, and each window has its own
    noise floor.

    Args:
        manifest: Noisy recordings.
        min_seconds: Length of the shortest stretch that is wanted.
        progress: Called with (recordings done, recordings in all) after every recording.

    Returns:
        Stretches in the order of the recordings and of time. A recording without pauses, or whose voice is nowhere
        clear enough to tell speech from noise, gives none.
    """
    stretches: list[NoiseStretch] = []
    for done, recording in enumerate(manifest.recordings, start=1):
        # Windows of equal length, so that the last one is not too short to show its floor.
        windows = max(1, math.ceil(recording.seconds / _WINDOW_SECONDS))
        edges = [recording.frames * index // windows for index in range(windows + 1)]
        for start, end in itertools.pairwise(edges):
            waveform, sample_rate = audio.read(recording.path, start=start, frames=end - start)
            rate = min(sample_rate, _ANALYSIS_RATE)
            mono = audio.resample(waveform.mean(axis=0), sample_rate, rate)
            for found in segments.noise_only_stretches(mono, rate, min_seconds=min_seconds):
                first, last = (position * sample_rate // rate for position in found)
                stretches.append(NoiseStretch(recording, start + first, last - first))
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


def stationary_noise(waveform: NDArray[np.float32], samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian noise with the spectrum of a recording's quietest frames: what is heard of its noise between words.

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
