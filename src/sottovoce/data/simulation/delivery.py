"""How people speak, varied: pauses, silence between words, vowels that are held as in singing, vocal effort."""

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.simulation.augmentation import log_uniform, transform_size
from sottovoce.signal import levels

Float32Array = NDArray[np.float32]

_FRAME_SECONDS = 0.01
# A gap between words is so far below the loud frames of a clip, and lasts so long.
_GAP_DB, _GAP_FRAMES = 30.0, 6
# In a gap of a recording without reverberation there is its room noise, a few dB above the quietest frames.
_ABOVE_FLOOR_DB = 8.0
# What ends before a gap fades for longer than what begins behind it needs to rise.
_FRAMES_BEHIND_SOUND, _FRAMES_BEFORE_SOUND = 4, 2
# A word begins a little before its energy does.
_BEFORE_WORD_SECONDS = 0.02
_FADE_SECONDS = 0.01
# A clip with a pause has at least so much speech behind it.
_AFTER_SECONDS = 1.0
_MIN_LEAD_IN_SECONDS = 0.3
# Who speaks after a pause may be another person, who is further away or closer.
_TURN_SHARE, _TURN_DB = 0.3, (-20.0, 6.0)
_FUNDAMENTAL_HZ = (70.0, 500.0)
_MIN_PERIODICITY = 0.7
_SEARCHED_SECONDS = 0.06
_HELD_SECONDS = (0.8, 3.0)
_VIBRATO_HZ, _VIBRATO_SEMITONES = (4.5, 6.5), (0.0, 0.5)
_SWELL_DB = 6.0
# Half of the clips are whispered or spoken up as a whole, the others from a word on.
_WHOLE_SHARE, _WHISPER_SHARE = 0.5, 0.5
_WHISPER_DB, _LOMBARD_DB = (-20.0, -8.0), (3.0, 10.0)
# Spoken up, the spectrum falls less between these; whispered, there is no voice and little below the first one.
_LOMBARD_HZ, _LOMBARD_DB_PER_OCTAVE = (500.0, 4000.0), (1.0, 4.0)
_WHISPER_HZ, _WHISPER_CUT_DB_PER_OCTAVE = 600.0, 9.0
_ENVELOPE_SECONDS, _ENVELOPE_HZ = 0.032, 250.0


def with_pause(
    clip: Float32Array, pause_seconds: tuple[float, float], sample_rate: int, rng: np.random.Generator
) -> Float32Array:
    """Speech with a pause in it, or before it, of digital silence, from which a word begins.

    The pause is put into a gap between words. A pause that is longer than the time before its word leaves nothing
    before it: the clip then begins as a recording that was started before anybody spoke.

    Args:
        clip: Speech `(T,)`.
        pause_seconds: Range of the length of the pause, of which every octave is equally likely.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.

    Returns:
        Samples `(T,)`; the clip itself where it has no gap, or is too short.
    """
    samples = clip.size
    latest = samples - round(_AFTER_SECONDS * sample_rate)
    earliest = round(_MIN_LEAD_IN_SECONDS * sample_rate)
    starts = word_starts(clip, sample_rate)
    if latest <= earliest or not starts.size:
        return clip
    start = int(rng.choice(starts))
    onset = int(rng.integers(earliest, latest))
    pause = round(log_uniform(pause_seconds, rng) * sample_rate)
    before, after = clip[:start].copy(), clip[start:].copy()
    fade = round(_FADE_SECONDS * sample_rate)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    if before.size >= fade:
        before[-fade:] *= ramp[::-1]
    after[:fade] *= ramp[: after.size]
    if rng.random() < _TURN_SHARE:
        after *= np.float32(10.0 ** (rng.uniform(*_TURN_DB) / 20.0))
    result = np.zeros(samples, np.float32)
    end = max(0, onset - pause)
    kept = min(before.size, end)
    result[end - kept : end] = before[before.size - kept :]
    rest = min(after.size, samples - onset)
    result[onset : onset + rest] = after[:rest]
    return result


def word_starts(clip: Float32Array, sample_rate: int) -> NDArray[np.int64]:
    """Samples just before words that follow a gap.

    Args:
        clip: Speech `(T,)`.
        sample_rate: Rate in Hz.

    Returns:
        Samples, ascending; none where there is no gap, or no speech.
    """
    power = _frame_power(clip, sample_rate)
    if power.size <= _GAP_FRAMES:
        return np.zeros(0, np.int64)
    quiet = power < np.quantile(power, 0.95) * 10.0 ** (-_GAP_DB / 10.0)
    gaps = np.asarray(np.lib.stride_tricks.sliding_window_view(quiet, _GAP_FRAMES).all(axis=1))
    # A word starts where a gap has just ended.
    ends = np.flatnonzero(gaps[:-1] & ~quiet[_GAP_FRAMES:]) + _GAP_FRAMES
    starts: NDArray[np.int64] = ends * round(_FRAME_SECONDS * sample_rate)
    return starts - round(_BEFORE_WORD_SECONDS * sample_rate)


def without_room_noise(clip: Float32Array, sample_rate: int) -> Float32Array:
    """Speech that is silent between its words, where a recording has the noise of its own room.

    A network that is given recordings as they are for clean learns to keep such noise.

    Args:
        clip: Speech `(T,)`.
        sample_rate: Rate in Hz.

    Returns:
        Samples `(T,)`; the clip itself where its gaps are too loud to tell room noise from speech.
    """
    power = _frame_power(clip, sample_rate)
    sounding = power[power > 0]
    if not sounding.size:
        return clip
    floor, loud = np.quantile(sounding, (0.08, 0.95))
    if loud < floor * 10.0 ** (_GAP_DB / 10.0):
        return clip
    quiet = np.pad(power < floor * 10.0 ** (_ABOVE_FLOOR_DB / 10.0), (_FRAMES_BEHIND_SOUND, _FRAMES_BEFORE_SOUND))
    width = _FRAMES_BEHIND_SOUND + 1 + _FRAMES_BEFORE_SOUND
    kept = ~np.asarray(np.lib.stride_tricks.sliding_window_view(quiet, width).all(axis=1))
    frame = round(_FRAME_SECONDS * sample_rate)
    gain = np.interp(np.arange(clip.size), (np.arange(power.size) + 0.5) * frame, kept)
    return clip * gain.astype(np.float32)


def _frame_power(clip: Float32Array, sample_rate: int) -> NDArray[np.float64]:
    """Power of every frame `(frames,)`. Differences weaken rumble, which would hide a gap, and keep fricatives."""
    return levels.frame_power(np.diff(clip, prepend=clip[:1]), round(_FRAME_SECONDS * sample_rate))


def with_held_vowel(clip: Float32Array, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Speech whose loudest voiced sound is held for a second or more, as in singing, with or without vibrato.

    Some periods of the sound are repeated, faster and slower by turns where there is vibrato.

    Args:
        clip: Speech `(T,)`.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.

    Returns:
        Samples `(T,)`; the clip itself where it has no voiced sound.
    """
    length = round(_SEARCHED_SECONDS * sample_rate)
    centre = _loudest(clip, length)
    segment = clip[centre : centre + length]
    period = _period(segment, sample_rate)
    if not period:
        return clip
    cycles = segment.size // period - 1
    loop, ramp = segment[: cycles * period].copy(), np.linspace(0, 1, period, dtype=np.float32)
    # The end of the loop turns into what stands before its beginning, so that it repeats without a step.
    loop[-period:] = loop[-period:] * (1 - ramp) + _period_before(clip, centre, period) * ramp
    held = round(rng.uniform(*_HELD_SECONDS) * sample_rate)
    time = np.arange(held) / sample_rate
    depth = np.log(2) / 12 * rng.uniform(*_VIBRATO_SEMITONES)
    speed = np.exp(depth * np.sin(2 * np.pi * rng.uniform(*_VIBRATO_HZ) * time))
    place = np.cumsum(speed) % loop.size
    sound = np.interp(place, np.arange(loop.size + 1), np.append(loop, loop[0]))
    sound *= 10.0 ** (np.interp(time, [0, time[-1]], rng.uniform(-_SWELL_DB, _SWELL_DB, 2)) / 20.0)
    fade = min(round(0.02 * sample_rate), held // 2)
    rise = np.linspace(0, 1, fade)
    sound[:fade] *= rise
    sound[-fade:] *= rise[::-1]
    joined = np.concatenate([clip[:centre], sound.astype(np.float32), clip[centre:]])
    start = max(0, min(centre - sample_rate // 2, joined.size - clip.size))
    return joined[start : start + clip.size]


def _period_before(clip: Float32Array, start: int, period: int) -> Float32Array:
    """The period before a place; at the beginning of a clip, the one that follows."""
    start = start if start >= period else start + period
    return clip[start - period : start]


def _loudest(clip: Float32Array, length: int) -> int:
    """Where the loudest stretch of so many samples begins."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
    return int(np.argmax(energy[length:] - energy[:-length])) if clip.size > length else 0


def _period(segment: Float32Array, sample_rate: int) -> int:
    """Samples after which a sound repeats itself; 0 where it does not."""
    shortest, longest = (round(sample_rate / hz) for hz in reversed(_FUNDAMENTAL_HZ))
    size = 2 * segment.size
    correlation = np.fft.irfft(np.square(np.abs(np.fft.rfft(segment, size))))[: longest + 1]
    if segment.size <= longest or correlation[0] <= 0:
        return 0
    # The later the lag, the fewer samples overlap.
    correlation = correlation * (segment.size / (segment.size - np.arange(longest + 1)))
    lag = shortest + int(np.argmax(correlation[shortest:]))
    return lag if correlation[lag] >= _MIN_PERIODICITY * correlation[0] else 0


def with_effort(clip: Float32Array, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Speech that is whispered, or spoken up as people do in noise (Lombard speech): tilt, level, and voicing.

    Whispered speech has the spectral envelope of the clip, without its lows, and noise in place of voice. Spoken up,
    it is louder and brighter. Either is so as a whole or from a word on.

    Args:
        clip: Speech `(T,)`.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.

    Returns:
        Samples `(T,)`.
    """
    whispers = rng.random() < _WHISPER_SHARE
    changed = whispered(clip, sample_rate, rng) if whispers else _spoken_up(clip, sample_rate, rng)
    if rng.random() < _WHOLE_SHARE:
        return changed
    starts = word_starts(clip, sample_rate)
    if not starts.size:
        return changed
    start, fade = int(rng.choice(starts)), round(_FADE_SECONDS * sample_rate)
    share = np.clip((np.arange(clip.size) - start) / fade, 0.0, 1.0).astype(np.float32)
    return clip + share * (changed - clip)


def whispered(clip: Float32Array, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Speech without voice: noise with the spectral envelope of the clip, softer and without its lows.

    Args:
        clip: Speech `(T,)`.
        sample_rate: Rate in Hz.
        rng: Source of the noise and of the level.

    Returns:
        Samples `(T,)`.
    """
    hop = round(_ENVELOPE_SECONDS * sample_rate / 4)
    length = 4 * hop
    padded = np.pad(clip, (length, length + -clip.size % hop))
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, length)[::hop] * window)))
    width = max(1, round(_ENVELOPE_HZ * length / sample_rate))
    sums = np.cumsum(np.pad(power, ((0, 0), (width + 1, width)), mode="edge"), axis=1, dtype=np.float64)
    # Cumulative sums leave less than nothing where there is nothing.
    envelope = np.sqrt(np.maximum(sums[:, 2 * width + 1 :] - sums[:, : -2 * width - 1], 0.0))
    noise = rng.standard_normal((*power.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    octaves_below = np.log2(_WHISPER_HZ / np.maximum(np.fft.rfftfreq(length, 1.0 / sample_rate), 20.0))
    cut = 10.0 ** (-_WHISPER_CUT_DB_PER_OCTAVE * np.maximum(octaves_below, 0.0) / 20.0)
    frames = np.fft.irfft(envelope * noise * cut, length) * window
    sound = np.zeros(padded.size)
    for part in range(4):
        piece = frames[:, part * hop : (part + 1) * hop].ravel()
        sound[part * hop : part * hop + piece.size] += piece
    sound = sound[length : length + clip.size]
    gain = levels.from_db(rng.uniform(*_WHISPER_DB)) * levels.rms(clip) / max(levels.rms(sound), 1e-12)
    return (sound * gain).astype(np.float32)


def _spoken_up(clip: Float32Array, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Speech that is louder, most of all between 1 and 4 kHz."""
    size = transform_size(clip.size)
    low_hz, high_hz = _LOMBARD_HZ
    octaves = np.log2(np.clip(np.fft.rfftfreq(size, 1.0 / sample_rate), low_hz, high_hz) / low_hz)
    gain = levels.from_db(rng.uniform(*_LOMBARD_DB_PER_OCTAVE) * octaves).astype(np.float32)
    brighter = np.fft.irfft(np.fft.rfft(clip, size) * gain, size)[: clip.size]
    louder = levels.from_db(rng.uniform(*_LOMBARD_DB)) * levels.rms(clip) / max(levels.rms(brighter), 1e-12)
    return (brighter * louder).astype(np.float32)
