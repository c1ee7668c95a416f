"""Variety from few recordings: speed perturbation, random filters, levels, a narrower band."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sottovoce.signal import levels

Float32Array = NDArray[np.float32]
Draw = Callable[[int, np.random.Generator], Float32Array]

_EDGE_SHARE = 0.1
# The recursive part of a filter with such poles is below -100 dB after this many samples.
_FILTER_TAIL = 256
# What a transform takes for periodic rings where its end meets its beginning.
_MARGIN = 256
# Multiples of these have no large prime factor that would slow a transform down.
_FAST_SIZE, _SPEED_STEP = 4096, 256


def played(draw: Draw, samples: int, speed: float, rng: np.random.Generator) -> Float32Array:
    """Speed perturbation of a clip: pitch, formants and pace of another voice, size of another source.

    The spectrum is cut at half the rate, without the slope of a resampler's filter: a network would know altered
    voices by that slope, and take what reaches up to half the rate for noise.

    Args:
        draw: Gives so many samples `(..., n)`.
        samples: Wanted length T.
        speed: 1 as it is recorded, above it faster. A slower clip has nothing above `speed` times half the rate.
        rng: Source of the draw.

    Returns:
        Samples `(..., T)`.
    """
    if speed == 1.0:
        return draw(samples, rng)
    size = transform_size(samples + 2 * _MARGIN)
    recorded = draw(_SPEED_STEP * round(size * speed / _SPEED_STEP), rng)
    resized = np.fft.irfft(np.fft.rfft(recorded), size) * (size / recorded.shape[-1])
    clip: Float32Array = resized[..., _MARGIN : _MARGIN + samples].astype(np.float32)
    return clip


def coloured(clips: Float32Array, most: float, rng: np.random.Generator) -> Float32Array:
    """Clips through one random filter of second order: other voices, microphones and distances from few.

    Args:
        clips: Samples `(..., T)`.
        most: Range of the coefficients, below 0.5; 0 for no filter.
        rng: Source of the coefficients.

    Returns:
        Samples of the same shape.

    Source:
        Valin, "A hybrid DSP/deep learning approach to real-time full-band speech enhancement" (2018), section IV.
    """
    if not most:
        return clips
    samples = clips.shape[-1]
    zeros, poles = rng.uniform(-most, most, (2, 2))
    size = transform_size(samples + _FILTER_TAIL)
    response = (np.fft.rfft([1, *zeros], size) / np.fft.rfft([1, *poles], size)).astype(np.complex64)
    return np.fft.irfft(np.fft.rfft(clips, size) * response, size)[..., :samples].astype(np.float32)


def at_random_level(clip: Float32Array, level_db: tuple[float, float], rng: np.random.Generator) -> Float32Array:
    """Scale a clip to a random level; a silent one stays silent.

    Args:
        clip: Samples `(T,)`.
        level_db: Range of the level in dB, full scale 0 dB.
        rng: Source of the level.

    Returns:
        Samples `(T,)`.
    """
    wanted_db = rng.uniform(*level_db)
    found_db = levels.rms_db(clip)
    return clip if found_db <= levels.SILENCE_DB else clip * np.float32(levels.from_db(wanted_db - found_db))


def band_limited(clip: Float32Array, cutoff_hz: float, sample_rate: int) -> Float32Array:
    """A clip as from a telephone or an old coder: nothing above a frequency, a smooth edge below it.

    Args:
        clip: Samples `(T,)`.
        cutoff_hz: The frequency in Hz; from half the rate on, the clip stays as it is.
        sample_rate: Rate in Hz.

    Returns:
        Samples `(T,)`.
    """
    if cutoff_hz >= sample_rate / 2:
        return clip
    size = transform_size(clip.size)
    below = (cutoff_hz - np.fft.rfftfreq(size, 1.0 / sample_rate)) / (_EDGE_SHARE * cutoff_hz)
    gain = np.square(np.sin(0.5 * np.pi * np.clip(below, 0.0, 1.0))).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(clip, size) * gain, size)[: clip.size].astype(np.float32)


def log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniform: every octave is equally likely.

    Args:
        limits: Smallest and largest, above 0.
        rng: Source of the draw.

    Returns:
        A number between them.
    """
    return float(np.exp(rng.uniform(*np.log(limits))))


def transform_size(samples: int) -> int:
    """Round a number of samples up to one that a transform is fast with.

    Args:
        samples: How many there are.

    Returns:
        So many or a few more.
    """
    return -(-samples // _FAST_SIZE) * _FAST_SIZE
