"""What a device does to all that it records: equaliser, microphone, codec.

What is linear belongs to the voice as well, and so to the target of a simulated mixture: equalisers, and the band limit
of a codec. What is added is noise, and is not in the target: self-noise, clipping, quantisation.
"""

import io
from typing import NamedTuple

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from sottovoce.data.simulation.augmentation import band_limited, log_uniform, transform_size
from sottovoce.signal import levels

Float32Array = NDArray[np.float32]

_KNOT_OCTAVES, _LOWEST_HZ = 0.5, 62.5
_TILT_DB_PER_OCTAVE = (-2.0, 2.0)
_BUMP_DEVIATION_DB = 4.0
_LOW_CUT_HZ, _LOW_CUT_DB_PER_OCTAVE, _LOW_CUT_SHARE = (60.0, 300.0), -12.0, 0.5
_MAX_GAIN_DB = 20.0
# Self-noise of cheap microphones, below the level of the recording.
_SELF_NOISE_DB = (-60.0, -30.0)
_PINK_SHARE = 0.5
_CLIPPED_SHARE = 0.5
# Where a microphone clips, as a share of the peak, and how gently.
_CLIP_AT = (0.25, 0.8)
_SOFT_SHARE = 0.5
# Peak of what reaches a codec, full scale 0 dB.
_CODED_PEAK_DB = (-20.0, -1.0)


class Codec(NamedTuple):
    """A coder of libsndfile that does not move sound in time.

    Attributes:
        container: Format of the file.
        coding: Subtype.
        sample_rate: Rate in Hz, at most.
        highest_hz: Up to where it keeps sound, in Hz.
        compression: From 0 to 1 where the coder has a choice.
    """

    container: str
    coding: str
    sample_rate: int
    highest_hz: float
    compression: float | None = None


CODECS = {
    "mu-law": Codec("WAV", "ULAW", 8000, 4000.0),
    "GSM": Codec("WAV", "GSM610", 8000, 4000.0),
    "ADPCM": Codec("WAV", "IMA_ADPCM", 16000, 8000.0),
    "Vorbis": Codec("OGG", "VORBIS", 16000, 7400.0, 1.0),
}
"""Telephone, mobile telephone, dictation machine, and a lossy file of low rate."""


def equalised(clips: Float32Array, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Clips through one random equaliser of zero phase: tilt, bumps, and in a half of them no lows.

    Args:
        clips: Samples `(..., T)`.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.

    Returns:
        Samples of the same shape; what they have most of stays within 20 dB of its level.
    """
    samples = clips.shape[-1]
    size = transform_size(samples)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1.0 / sample_rate), 1.0) / _LOWEST_HZ)
    knots = np.arange(0.0, octaves[-1] + _KNOT_OCTAVES, _KNOT_OCTAVES)
    # Bumps that change from knot to knot would be a comb; neighbours share half of what they are.
    drawn = rng.standard_normal(knots.size + 1)
    knots_db = _BUMP_DEVIATION_DB * (drawn[:-1] + drawn[1:]) / np.sqrt(2.0)
    knots_db += rng.uniform(*_TILT_DB_PER_OCTAVE) * (knots - knots.mean())
    gain_db = np.clip(np.interp(octaves, knots, knots_db), -_MAX_GAIN_DB, _MAX_GAIN_DB)
    if rng.random() < _LOW_CUT_SHARE:
        below = np.log2(log_uniform(_LOW_CUT_HZ, rng) / _LOWEST_HZ) - octaves
        gain_db += _LOW_CUT_DB_PER_OCTAVE * np.maximum(below, 0.0)
    gain = (10.0 ** (gain_db / 20.0)).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(clips, size) * gain, size)[..., :samples].astype(np.float32)


def microphone_error(clip: Float32Array, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """What a cheap microphone adds to the sound at it: its own noise, and in a half of them distortion of loud sounds.

    Args:
        clip: Samples `(T,)`.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.

    Returns:
        What is added `(T,)`.
    """
    hiss = rng.standard_normal(clip.size).astype(np.float32)
    if rng.random() < _PINK_SHARE:
        size = transform_size(clip.size)
        slope = 1.0 / np.sqrt(np.maximum(np.fft.rfftfreq(size, 1.0 / sample_rate), 50.0))
        hiss = np.fft.irfft(np.fft.rfft(hiss, size) * slope, size)[: clip.size].astype(np.float32)
    hiss *= np.float32(levels.from_db(rng.uniform(*_SELF_NOISE_DB)) * levels.rms(clip) / levels.rms(hiss))
    recorded = clip + hiss
    peak = float(np.abs(recorded).max(initial=0.0))
    if peak and rng.random() < _CLIPPED_SHARE:
        limit = np.float32(peak * rng.uniform(*_CLIP_AT))
        soft = rng.random() < _SOFT_SHARE
        recorded = limit * np.tanh(recorded / limit) if soft else np.clip(recorded, -limit, limit)
    return recorded - clip


def coded(
    clips: Float32Array, cutoff_hz: float, sample_rate: int, rng: np.random.Generator, name: str | None = None
) -> Float32Array:
    """Clips of one recording that goes through a codec.

    Args:
        clips: The recording and parts of it `(n, T)`.
        cutoff_hz: Up to where the recording reaches, in Hz: nothing is added above.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.
        name: One of `CODECS`; None for any.

    Returns:
        Samples of the same shape, all without what the codec cannot carry; the first one is coded.
    """
    codec = CODECS[name or list(CODECS)[int(rng.integers(len(CODECS)))]]
    peak = float(np.abs(clips[0]).max(initial=0.0))
    if not peak:
        return clips
    gain = float(levels.from_db(rng.uniform(*_CODED_PEAK_DB))) / peak
    clips = np.stack([band_limited(clip, codec.highest_hz, sample_rate) for clip in clips])
    error = _through(codec, gain * clips[0], sample_rate) / np.float32(gain) - clips[0]
    error = band_limited(error, min(cutoff_hz, codec.highest_hz), sample_rate)
    return np.concatenate([(clips[0] + error)[np.newaxis], clips[1:]])


def _through(codec: Codec, clip: Float32Array, sample_rate: int) -> Float32Array:
    """A clip `(T,)` that is encoded and decoded."""
    rate = min(codec.sample_rate, sample_rate)
    size = transform_size(clip.size)
    fewer = size * rate // sample_rate
    slow = clip if rate == sample_rate else _resized(clip, size, fewer)
    with io.BytesIO() as file:
        sf.write(file, slow, rate, format=codec.container, subtype=codec.coding, compression_level=codec.compression)
        file.seek(0)
        decoded = sf.read(file, dtype="float32")[0][: slow.size]
    decoded = np.pad(decoded, (0, slow.size - decoded.size))
    return decoded if rate == sample_rate else _resized(decoded, fewer, size)[: clip.size]


def _resized(clip: Float32Array, size: int, wanted: int) -> Float32Array:
    """A clip that is filled up to a size, at another rate `(wanted,)`."""
    resized: Float32Array = (np.fft.irfft(np.fft.rfft(clip, size), wanted) * (wanted / size)).astype(np.float32)
    return resized
