"""Noise that comes from no recording."""

import numpy as np
import pytest

from sottovoce.data.simulation.synthetic import NOISE_KINDS, SOURCE_KINDS, synthetic_noise

RATE = 16000


@pytest.mark.parametrize("kind", [*NOISE_KINDS, *SOURCE_KINDS, None])
@pytest.mark.parametrize("samples", [1, 1600, 48000])
def test_has_length_level_and_finite_values(kind, samples):
    for seed in range(10):
        noise = synthetic_noise(samples, RATE, np.random.default_rng(seed), kind)
        assert noise.shape == (samples,)
        assert noise.dtype == np.float32
        assert np.isfinite(noise).all()
        assert np.sqrt(np.mean(np.square(noise))) == pytest.approx(1.0, rel=1e-3)


def test_a_seed_tells_everything_and_seeds_differ():
    one, again, other = (synthetic_noise(4000, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def spread_db(noise):
    """How much the level of 20 ms differs from moment to moment."""
    frames = noise[: noise.size // 320 * 320].reshape(-1, 320)
    return float(np.std(10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-9)))


def flatness(noise):
    """Geometric over arithmetic mean of the power spectrum."""
    power = np.square(np.abs(np.fft.rfft(noise * np.hanning(noise.size)))) + 1e-12
    return float(np.exp(np.mean(np.log(power))) / np.mean(power))


def test_kinds_sound_as_they_are_called():
    made = {
        kind: [synthetic_noise(3 * RATE, RATE, np.random.default_rng(seed), kind) for seed in range(20)]
        for kind in NOISE_KINDS
    }
    spread = {kind: np.median([spread_db(noise) for noise in noises]) for kind, noises in made.items()}
    assert spread["steady"] < 2.0 < spread["swelling"] < spread["bursts"]
    assert spread["tones"] < 2.0
    flat = {kind: np.median([flatness(noise) for noise in noises]) for kind, noises in made.items()}
    assert flat["tones"] < 0.3 * flat["steady"]
    for kind in ("calls", "impacts"):  # both come and go, and both are far from any colour of hiss
        assert spread["swelling"] < spread[kind] < spread["bursts"]
        assert flat["tones"] < flat[kind] < 0.1 * flat["steady"]


def frames_db(noise):
    """Power of each band of 125 Hz over time, `(frames, bands)`."""
    frames = np.lib.stride_tricks.sliding_window_view(noise, 256)[::128] * np.hanning(256)
    return 10 * np.log10(np.square(np.abs(np.fft.rfft(frames)))[:, 2::2] + 1e-6)


def test_impacts_start_at_once_and_ring_on_and_calls_rise():
    """The level jumps up when something is struck and falls slowly; a call swells and dies away equally fast."""
    skew = {}
    for kind in ("calls", "impacts"):
        steps = []
        for seed in range(40):
            level = np.log(
                np.exp(frames_db(synthetic_noise(3 * RATE, RATE, np.random.default_rng(seed), kind)) / 10).sum(1)
            )
            change = np.diff(level)
            steps.append(np.mean(change**3) / np.mean(change**2) ** 1.5)
        skew[kind] = np.median(steps)
    assert skew["impacts"] > 0.5
    assert abs(skew["calls"]) < 0.5 * skew["impacts"]


def made(kind, seeds=12, seconds=3):
    return [synthetic_noise(seconds * RATE, RATE, np.random.default_rng(seed), kind) for seed in range(seeds)]


def test_engines_and_fans_go_round():
    """The level of both repeats itself with every firing or blade."""
    for kind in ("engine", "fan"):
        periodicity = []
        for noise in made(kind):
            power = np.square(np.abs(np.fft.rfft(noise * np.hanning(noise.size))))
            lows = power[20 * 3 : 1000 * 3]
            periodicity.append(lows.max() / np.median(lows))
        assert np.median(periodicity) > 1000  # of hiss: some 15


def test_a_keyboard_is_silent_between_keys():
    noises = made("keyboard", seeds=8)
    assert np.median([spread_db(noise) for noise in noises]) > 5
    for noise in noises:
        level = np.abs(noise[: noise.size // 160 * 160]).reshape(-1, 160).max(axis=1)
        assert level.max() > 10 * np.median(level)


def test_the_pitch_of_a_siren_moves():
    octaves = []
    for noise in made("siren"):
        frames = np.lib.stride_tricks.sliding_window_view(noise, 2048)[::1024] * np.hanning(2048)
        peaks = np.abs(np.fft.rfft(frames))[:, 2:].argmax(axis=1) + 2
        octaves.append(np.ptp(np.log2(np.quantile(peaks, (0.1, 0.9)))))
    assert np.median(octaves) > 0.3


def test_music_has_notes():
    """Few narrow lines carry it, and they change."""
    noises = made("music", seeds=8)
    assert np.median([flatness(noise) for noise in noises]) < 0.1
    assert np.median([spread_db(noise) for noise in noises]) > 1
