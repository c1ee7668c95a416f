"""Noise for which no recording is needed: what machines, weather, keys, mains, animals and dishes sound like, roughly.

The recordings of one place hold few kinds of noise. A network that has met thousands of colours, swells, bursts,
tones, calls and impacts learns what speech is instead of what these few noises are.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.data.simulation.augmentation import log_uniform, transform_size

NoiseKind = Literal["steady", "swelling", "bursts", "tones", "calls", "impacts"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("steady", "swelling", "bursts", "tones", "calls", "impacts")
SourceKind = Literal["engine", "fan", "keyboard", "siren", "music"]
SOURCE_KINDS: tuple[SourceKind, ...] = ("engine", "fan", "keyboard", "siren", "music")
"""Models of one source each, where those of `NOISE_KINDS` are shapes that many sources have."""

_TILT_DB_PER_OCTAVE = (-9.0, 3.0)
_TILT_FROM_HZ = 100.0
_BUMP_OCTAVES = 1.0
_BUMP_DEVIATION_DB = 6.0
_SWELL_HZ = (0.2, 8.0)
_SWELL_DEVIATION_DB = 6.0
_BURSTS_PER_SECOND = (0.5, 12.0)
_BURST_DECAY_SECONDS = (0.003, 0.2)
_BURST_RISE_SECONDS = (0.0005, 0.1)
_SPREAD_DB = 10.0
_FUNDAMENTAL_HZ = (40.0, 2000.0)
_MAX_PARTIALS = 12
_HISS_DB = (-40.0, -15.0)
_MAX_SOUNDS = 4
_SOUNDS_PER_SECOND = (0.7, 60.0)
_EVEN_SHARE = 0.5
_UNEVENNESS = 0.1
_SOUND_SECONDS = (0.004, 0.6)
_CALL_HZ = (500.0, 7000.0)
_CALL_SWEEP_OCTAVES = 0.5
_CALL_WARBLE_OCTAVES, _CALL_WARBLE_HZ = 0.1, (3.0, 60.0)
_MAX_CALL_PARTIALS = 4
_MODE_HZ = (150.0, 7500.0)
_MODE_DECAY_SECONDS = (0.003, 0.15)
_MAX_MODES = 10
_ENGINE_HZ = (8.0, 90.0)  # revolutions per second
_ENGINE_FIRINGS = (1, 2, 3, 4)
_FAN_HZ, _FAN_BLADES, _FAN_TONE_DB = (5.0, 60.0), (3, 12), (-20.0, 0.0)
_KEYS_PER_SECOND, _KEY_HELD_SECONDS = (2.0, 12.0), (0.05, 0.15)
_SIREN_HZ, _SIREN_OCTAVES, _SIREN_CYCLES_HZ = (350.0, 1200.0), (0.3, 1.5), (0.15, 5.0)
_BEATS_PER_SECOND = (1.0, 4.0)
_TONIC_HZ, _SCALE = (55.0, 440.0), (0, 2, 3, 5, 7, 8, 10, 12, 15, 19)


def synthetic_noise(
    samples: int, sample_rate: int, rng: np.random.Generator, kind: NoiseKind | SourceKind | None = None
) -> NDArray[np.float32]:
    """Make a noise of random colour.

    Args:
        samples: Wanted length.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.
        kind: "steady" as of fans and rain, "swelling" as of wind and traffic, "bursts" as of keys and coughs, "tones"
            as of mains and motors, "calls" as of birds and crickets, "impacts" as of dishes and drops; None for any of
            these. Or one of `SOURCE_KINDS`.

    Returns:
        Noise `(samples,)` of unit root mean square, not silent.
    """
    if kind is None:
        kind = NOISE_KINDS[int(rng.integers(len(NOISE_KINDS)))]
    noise = _coloured_gaussian(samples, sample_rate, rng)
    if kind == "swelling":
        noise *= swell(samples, sample_rate, rng)
    elif kind == "bursts":
        noise *= _bursts(samples, sample_rate, rng)
    elif kind != "steady":
        make = _MAKERS[kind]
        sounds = make(samples, sample_rate, rng)
        noise *= 10.0 ** (rng.uniform(*_HISS_DB) / 20.0) / _rms(noise)
        noise += sounds / _rms(sounds)
    return (noise / _rms(noise)).astype(np.float32)


def swell(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Make a gain that rises and falls, faster or slower.

    Args:
        samples: Wanted length.
        sample_rate: Rate in Hz.
        rng: Where all draws come from.

    Returns:
        Gains `(samples,)`, above 0, with a mean of some 0 dB.
    """
    step = sample_rate / (2.0 * log_uniform(_SWELL_HZ, rng))
    knots_db = _SWELL_DEVIATION_DB * rng.standard_normal(int(samples / step) + 3)
    position = (np.arange(samples) + rng.uniform(0.0, step)) / step
    gain_db: NDArray[np.float64] = np.interp(position, np.arange(knots_db.size), knots_db)
    return 10.0 ** (gain_db / 20.0)


def _placed(
    sound: NDArray[np.float64], starts: NDArray[np.int64], samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A sound at several times, each at a level of its own."""
    impulses = np.zeros(samples)
    np.add.at(impulses, starts, 10.0 ** (rng.uniform(-_SPREAD_DB, 0.0, starts.size) / 20.0))
    size = 1 << (samples + sound.size - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(impulses, size) * np.fft.rfft(sound, size), size)[:samples]


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


def _bursts(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gain that rises, at random times, and dies away."""
    count = 1 + int(rng.poisson(samples / sample_rate * log_uniform(_BURSTS_PER_SECOND, rng)))
    rise, decay = log_uniform(_BURST_RISE_SECONDS, rng), log_uniform(_BURST_DECAY_SECONDS, rng)
    seconds = np.arange(1, 2 + min(samples, int((rise + 7.0 * decay) * sample_rate))) / sample_rate
    shape = np.minimum(seconds / rise, np.exp((rise - seconds) / decay))
    return np.maximum(_placed(shape, rng.integers(samples, size=count), samples, rng), 0.0)


def _tones(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Partials of one steady fundamental."""
    fundamental_hz = log_uniform(_FUNDAMENTAL_HZ, rng)
    most = min(_MAX_PARTIALS, int(0.45 * sample_rate / fundamental_hz))
    phase = 2.0 * np.pi * fundamental_hz * np.arange(samples) / sample_rate
    partials = np.arange(1, 1 + int(rng.integers(1, most + 1)))
    gains = rng.exponential(1.0, partials.size) / partials ** rng.uniform(0.0, 1.5)
    starts = rng.uniform(0.0, 2.0 * np.pi, partials.size)
    tones: NDArray[np.float64] = sum(
        (gain * np.sin(partial * phase + start) for gain, partial, start in zip(gains, partials, starts, strict=True)),
        np.zeros(samples),
    )
    return tones


def _calls(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Short tones that glide and warble."""
    pitch_hz, sweep = log_uniform(_CALL_HZ, rng), _CALL_SWEEP_OCTAVES * rng.standard_normal()
    most = int(rng.integers(1, _MAX_CALL_PARTIALS + 1))

    def call(seconds: float) -> NDArray[np.float64]:
        time = np.arange(max(int(seconds * sample_rate), 2)) / sample_rate
        octaves = sweep * rng.uniform(0.5, 1.0) * (time / seconds - 0.5)
        warble = 2.0 * np.pi * (log_uniform(_CALL_WARBLE_HZ, rng) * time + rng.random())
        octaves += _CALL_WARBLE_OCTAVES * rng.random() * np.sin(warble)
        frequency_hz = pitch_hz * 2.0 ** (0.2 * rng.standard_normal() + octaves)
        phase = 2.0 * np.pi * np.cumsum(frequency_hz) / sample_rate
        rise = rng.uniform(0.05, 0.6)
        gain = np.sin(0.5 * np.pi * np.minimum(time / (rise * seconds), (1.0 - time / seconds) / (1.0 - rise)))
        tones = np.zeros_like(time)
        for partial in range(1, most + 1):
            in_band = partial * frequency_hz < 0.48 * sample_rate
            tones += in_band * rng.exponential(1.0) / partial * np.sin(partial * phase)
        return gain * tones

    return _series(call, samples, sample_rate, rng)


def _impacts(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Bodies that are struck and ring."""
    click = int(log_uniform((0.0003, 0.005), rng) * sample_rate) + 1
    click_gain = rng.exponential(0.5)

    def impact(seconds: float) -> NDArray[np.float64]:
        time = np.arange(max(int(seconds * sample_rate), 2)) / sample_rate
        sound = np.zeros_like(time)
        for _ in range(int(rng.integers(1, _MAX_MODES + 1))):
            mode_hz, decay = log_uniform(_MODE_HZ, rng), log_uniform(_MODE_DECAY_SECONDS, rng)
            sound += rng.exponential(1.0) * np.exp(-time / decay) * np.sin(2.0 * np.pi * mode_hz * time)
        knock = min(click, time.size)
        sound[:knock] += click_gain * rng.standard_normal(knock)
        return sound

    return _series(impact, samples, sample_rate, rng)


def _series(
    sound: Callable[[float], NDArray[np.float64]], samples: int, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A few sounds of one source, again and again: evenly as of a cricket, or when they like."""
    per_second = log_uniform(_SOUNDS_PER_SECOND, rng)
    evenly = rng.random() < _EVEN_SHARE
    series = np.zeros(samples)
    count = int(rng.integers(1, _MAX_SOUNDS + 1))
    for _ in range(count):
        seconds = float(np.clip(rng.uniform(0.1, 1.5) / per_second, *_SOUND_SECONDS))
        period = count * sample_rate / per_second
        if evenly:
            starts = np.arange(rng.uniform(0.0, min(period, samples)), samples, period)
            starts += _UNEVENNESS * rng.random() * period * rng.standard_normal(starts.size)
        else:
            starts = rng.uniform(0, samples, 1 + int(rng.poisson(samples / period)))
        series += _placed(sound(seconds), np.clip(starts, 0, samples - 1).astype(np.int64), samples, rng)
    if rng.random() < 0.5:
        series *= swell(samples, sample_rate, rng)
    return series


def _drifting(
    centre: float, share: float, samples: int, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A frequency that wanders about its centre, a new value every half second."""
    knots = share * np.cumsum(rng.standard_normal(2 * samples // sample_rate + 3))
    position = 2.0 * np.arange(samples) / sample_rate
    hertz: NDArray[np.float64] = centre * np.exp2(np.interp(position, np.arange(knots.size), knots))
    return hertz


def _engine(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Firings through a muffler, at a speed that drifts, no two cylinders the same."""
    turns = np.cumsum(_drifting(log_uniform(_ENGINE_HZ, rng), 0.05, samples, sample_rate, rng)) / sample_rate
    firings = int(rng.choice(_ENGINE_FIRINGS))
    number = np.floor(firings * turns).astype(np.int64)
    loudness = rng.uniform(0.6, 1.0, firings)[number % firings]
    phase = firings * turns - number
    pulse = loudness * np.exp(-phase * rng.uniform(3.0, 12.0))
    roar = rng.uniform(0.05, 0.5) * pulse * rng.standard_normal(samples)
    muffler_hz = log_uniform((80.0, 800.0), rng)
    size = transform_size(samples)
    hertz = np.fft.rfftfreq(size, 1.0 / sample_rate)
    gain = 1.0 / np.hypot(1.0, hertz / muffler_hz) + 10.0 ** (rng.uniform(-40.0, -20.0) / 20.0)
    gain[hertz < 20.0] = 0.0
    return np.fft.irfft(np.fft.rfft(pulse + roar, size) * gain, size)[:samples]


def _fan(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Air that blades chop, and the tone of their passing."""
    blades = int(rng.integers(*_FAN_BLADES, endpoint=True))
    speed_hz = _drifting(log_uniform(_FAN_HZ, rng), 0.005, samples, sample_rate, rng)
    phase = 2.0 * np.pi * np.cumsum(speed_hz) / sample_rate
    air = _coloured_gaussian(samples, sample_rate, rng)
    air *= 1.0 + rng.uniform(0.0, 0.6) * np.cos(blades * phase) + rng.uniform(0.0, 0.2) * np.cos(phase)
    tone = np.zeros(samples)
    for partial in range(1, int(rng.integers(2, 6))):
        tone += rng.exponential(1.0) / partial * np.cos(partial * blades * phase + rng.uniform(0.0, 2.0 * np.pi))
    tone *= 10.0 ** (rng.uniform(*_FAN_TONE_DB) / 20.0) / _rms(tone)
    return air / _rms(air) + tone


def _keyboard(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Keys that go down and, softer and higher, up again, in the rhythm of somebody who types words."""
    per_second = log_uniform(_KEYS_PER_SECOND, rng)
    gaps = rng.gamma(4.0, 0.25 / per_second, 4 + int(2 * per_second * samples / sample_rate))
    gaps[rng.random(gaps.size) < 0.12] += rng.uniform(0.3, 1.5)  # between words, and to think
    down = np.cumsum(gaps)
    held = rng.uniform(*_KEY_HELD_SECONDS)
    keys, typing = int(rng.integers(2, 6)), np.zeros(samples)
    for _ in range(keys):  # Every key has a sound of its own.
        mine = down[rng.random(down.size) < 1.0 / keys]
        for moments, higher, gain in ((mine, 1.0, 1.0), (mine + held, 1.4, rng.uniform(0.2, 0.7))):
            starts = (moments * sample_rate).astype(np.int64)
            time = np.arange(int(0.06 * sample_rate)) / sample_rate
            click = rng.standard_normal(time.size) * np.exp(-time / log_uniform((0.0005, 0.004), rng))
            for _ in range(4):
                mode_hz = min(higher * log_uniform((300.0, 6000.0), rng), 0.45 * sample_rate)
                decay = log_uniform((0.003, 0.02), rng)
                click += rng.exponential(0.7) * np.exp(-time / decay) * np.sin(2.0 * np.pi * mode_hz * time)
            typing += gain * _placed(click, starts[starts < samples], samples, rng)
    return typing


def _siren(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A horn whose pitch wails, yelps or changes between two tones."""
    cycle = log_uniform(_SIREN_CYCLES_HZ, rng) * np.arange(samples) / sample_rate + rng.random()
    wave = 0.5 - 0.5 * np.cos(2.0 * np.pi * cycle)
    shape = rng.random()
    if shape < 1 / 3:
        wave = np.round(wave)
    elif shape < 2 / 3:
        wave = cycle % 1.0
    octaves = rng.uniform(*_SIREN_OCTAVES) * wave
    hertz = log_uniform(_SIREN_HZ, rng) * 2.0**octaves
    phase = 2.0 * np.pi * np.cumsum(hertz) / sample_rate
    horn, slope = np.zeros(samples), rng.uniform(0.5, 2.0)
    for partial in range(1, 1 + int(rng.integers(2, 9))):
        horn += (partial * hertz < 0.48 * sample_rate) * np.sin(partial * phase) / partial**slope
    return horn * swell(samples, sample_rate, rng) if rng.random() < 0.5 else horn


def _music(samples: int, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Notes of one scale on a beat, plucked or blown, over a drum."""
    beat = max(int(sample_rate / log_uniform(_BEATS_PER_SECOND, rng)), 1)
    tonic_hz, beats = log_uniform(_TONIC_HZ, rng), -(-samples // beat)
    music, partials = np.zeros(samples), int(rng.integers(3, 10))
    decay, blown, slope = log_uniform((0.1, 1.5), rng), rng.random() < 0.3, rng.uniform(0.7, 2.0)
    time = np.arange(min(2 * beat, samples)) / sample_rate
    # Blown notes last as they are and end with the beat; plucked ones die away.
    shape = np.minimum(time / 0.03, 1.0) if blown else np.minimum(time / 0.003, 1.0) * np.exp(-time / decay)
    shape *= np.clip((time.size / sample_rate - time) / 0.05, 0.0, 1.0)
    for degree in rng.choice(_SCALE, size=6, replace=False):
        hertz = tonic_hz * 2.0 ** (degree / 12.0)
        note = np.zeros(time.size)
        for partial in range(1, 1 + min(partials, int(0.48 * sample_rate / hertz))):
            note += rng.uniform(0.5, 1.0) * np.sin(2.0 * np.pi * partial * hertz * time) / partial**slope
        music += _placed(shape * note, beat * np.flatnonzero(rng.random(beats) < 0.3), samples, rng)
    if rng.random() < 0.6:
        knock = rng.standard_normal(time.size) * np.exp(-time / log_uniform((0.01, 0.1), rng))
        drum = _placed(knock, beat * np.arange(beats), samples, rng)
        music += rng.uniform(0.1, 0.7) * _rms(music) / _rms(drum) * drum
    return music


_MAKERS: dict[str, Callable[[int, int, np.random.Generator], NDArray[np.float64]]] = {
    "tones": _tones,
    "calls": _calls,
    "impacts": _impacts,
    "engine": _engine,
    "fan": _fan,
    "keyboard": _keyboard,
    "siren": _siren,
    "music": _music,
}
