"""Noise for which no recording is needed: what machines, weather, keys and mains sound like, roughly, in any colour.

The recordings of one place hold few kinds of noise. A network that has met thousands of colours, swells, bursts and
tones learns what speech is instead of what these few noises are.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

NoiseKind = Literal["steady", "swelling", "bursts", "tones"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("steady", "swelling", "bursts", "tones")

_TILT_DB_PER_OCTAVE = (-9.0, 3.0)
_TILT_FROM_HZ = 100.0
_BUMP_OCTAVES = 1.0
_BUMP_DEVIATION_DB = 6.0
_SWELL_HZ = (0.2, 8.0)
_SWELL_DEVIATION_DB = 6.0
_BURSTS_PER_SECOND = (0.5, 12.0)
_BURST_DECAY_SECONDS = (0.003, 0.2)
_BURST_SPREAD_DB = 10.0
_FUNDAMENTAL_HZ = (40.0, 2000.0)
_MOST_PARTIALS = 12
_HISS_DB = -20.0


def synthetic_noise(
    samples: int, sample_rate: int, rng: np.random.Generator, kind: NoiseKind | None = None
) -> NDArray[np.float32]:
    """Make a noise of random colour.

    Args:
        samples: Wanted length.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.
        kind: "steady" as of fans and rain, "swelling" as of wind and traffic, "bursts" as of keys and steps, "tones" as
            of mains and motors; None for any.

    Returns:
        Noise `(samples,)` of unit root mean square, not silent.
    """
    if kind is None:
        kind = NOISE_KINDS[int(rng.integers(len(NOISE_KINDS)))]
    noise = _coloured_gaussian(samples, sample_rate, rng)
    if kind == "swelling":
        noise *= _swell(samples, sample_rate, rng)
    elif kind == "bursts":
        noise *= _bursts(samples, sample_rate, rng)
    elif kind == "tones":
        hiss = 10.0 ** (_HISS_DB / 20.0) * noise / _rms(noise)
        tones = _tones(samples, sample_rate, rng)
        noise = tones / _rms(tones) + hiss
    return (noise / _rms(noise)).astype(np.float32)


def _rms(waveform: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform)) + 1e-20))


def _coloured_gaussian(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian noise whose spectrum has a slope and smooth bumps."""
    size = samples + 1024 - samples % 1024  # a length without large prime factors
    frequency_hz = np.maximum(np.fft.rfftfreq(size, 1.0 / sample_rate), 20.0)
    octaves = np.log2(frequency_hz / _TILT_FROM_HZ)
    gain_db = rng.uniform(*_TILT_DB_PER_OCTAVE) * np.maximum(octaves, 0.0)
    knots = np.arange(octaves[0], octaves[-1] + _BUMP_OCTAVES, _BUMP_OCTAVES)
    gain_db += np.interp(octaves, knots, _BUMP_DEVIATION_DB * rng.standard_normal(knots.size))
    white = np.fft.rfft(rng.standard_normal(size))
    return np.fft.irfft(white * 10.0 ** (gain_db / 20.0), size)[:samples]


def _swell(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gain that rises and falls."""
    step = sample_rate / (2.0 * np.exp(rng.uniform(*np.log(_SWELL_HZ))))
    knots_db = _SWELL_DEVIATION_DB * rng.standard_normal(int(samples / step) + 3)
    position = (np.arange(samples) + rng.uniform(0.0, step)) / step
    gain_db: NDArray[np.float64] = np.interp(position, np.arange(knots_db.size), knots_db)
    return 10.0 ** (gain_db / 20.0)


def _bursts(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gain that jumps up and dies away, at random times."""
    seconds = samples / sample_rate
    count = 1 + int(rng.poisson(seconds * np.exp(rng.uniform(*np.log(_BURSTS_PER_SECOND)))))
    decay = np.exp(rng.uniform(*np.log(_BURST_DECAY_SECONDS))) * sample_rate
    impulses = np.zeros(samples)
    np.add.at(impulses, rng.integers(samples, size=count), 10.0 ** (rng.uniform(-_BURST_SPREAD_DB, 0, count) / 20.0))
    tail = np.exp(-np.arange(min(samples, int(7 * decay) + 1)) / decay)
    size = 1 << (samples + tail.size - 1).bit_length()
    return np.maximum(np.fft.irfft(np.fft.rfft(impulses, size) * np.fft.rfft(tail, size), size)[:samples], 0.0)


def _tones(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Partials of one steady fundamental."""
    fundamental_hz = np.exp(rng.uniform(*np.log(_FUNDAMENTAL_HZ)))
    most = min(_MOST_PARTIALS, int(0.45 * sample_rate / fundamental_hz))
    phase = 2.0 * np.pi * fundamental_hz * np.arange(samples) / sample_rate
    partials = np.arange(1, 1 + int(rng.integers(1, most + 1)))
    gains = rng.exponential(1.0, partials.size) / partials ** rng.uniform(0.0, 1.5)
    starts = rng.uniform(0.0, 2.0 * np.pi, partials.size)
    tones: NDArray[np.float64] = sum(
        (gain * np.sin(partial * phase + start) for gain, partial, start in zip(gains, partials, starts, strict=True)),
        np.zeros(samples),
    )
    return tones
