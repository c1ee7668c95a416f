"""Statistical gains: what they take away, what they leave, and that nothing breaks them."""

import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.systems import RATE, speech

from sottovoce.errors import ConfigError, MissingExtraError
from sottovoce.signal.levels import noise_gain_for_snr, rms_db
from sottovoce.signal.stft import MultiResolutionSTFT
from sspd2023.baselines.classical import LogMmse, SpectralSubtraction, Wiener, track_noise

pytest.importorskip("scipy")

SYSTEMS = [SpectralSubtraction, Wiener, LogMmse]


def white(seconds, level_db, seed=0):
    """Return white noise of a level."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (10 ** (level_db / 20) * noise).astype(np.float32)


def power_of(waveform):
    """Return |Y|² in the framing of the systems."""
    return np.square(MultiResolutionSTFT((512,), 128).analyse(waveform.astype(np.float64))).sum(axis=0)


def snr_db(reference, estimate):
    """Return the ratio of a signal to its error."""
    return rms_db(reference) - rms_db(estimate - reference)


@pytest.mark.parametrize("system", SYSTEMS)
def test_stationary_noise_alone_sinks_by_ten_decibels(system):
    noise = white(3, -30)
    enhanced = system().enhance(noise, RATE)
    assert rms_db(enhanced[RATE:]) < rms_db(noise[RATE:]) - 10


@pytest.mark.parametrize("system", SYSTEMS)
def test_speech_in_stationary_noise_gains_three_decibels(system):
    clean = speech(4.0, kind="clean")
    noise = white(4, -30)
    noisy = clean + np.float32(noise_gain_for_snr(clean, noise, 5, RATE)) * noise
    enhanced = system().enhance(noisy, RATE)
    assert snr_db(clean, enhanced) > snr_db(clean, noisy) + 3


@pytest.mark.parametrize("system", SYSTEMS)
def test_loud_tones_over_quiet_noise_pass(system):
    time = np.arange(3 * RATE) / RATE
    bursts = (time % 1 > 0.6) * (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    enhanced = system().enhance(bursts + white(3, -70), RATE)
    assert snr_db(bursts, enhanced) > 15


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    system=st.sampled_from(SYSTEMS),
    samples=st.integers(0, 3000),
    silent=st.integers(0, 3000),
    level_db=st.sampled_from([-120.0, -90.0, -20.0, 0.0]),
)
@example(system=LogMmse, samples=1, silent=0, level_db=-20.0)
@example(system=Wiener, samples=511, silent=0, level_db=-20.0)
def test_length_is_kept_and_nothing_is_amplified(system, samples, silent, level_db):
    waveform = white(3000 / RATE, level_db)[:samples]
    waveform[:silent] = 0
    enhanced = system().enhance(waveform, RATE)
    assert enhanced.shape == waveform.shape
    assert enhanced.dtype == np.float32
    assert np.isfinite(enhanced).all()
    assert np.linalg.norm(enhanced) <= 1.001 * np.linalg.norm(waveform)


@pytest.mark.parametrize("system", SYSTEMS)
def test_output_is_aligned(system):
    noisy = speech(2.0)
    enhanced = system().enhance(noisy, RATE)
    correlation = np.correlate(noisy[800:-800], enhanced, mode="valid")
    assert np.argmax(correlation) == 800


@pytest.mark.parametrize("system", SYSTEMS)
def test_silence_stays_silent_and_says_nothing_of_the_noise(system):
    noise = white(2, -30)
    assert not system().enhance(np.zeros(RATE, np.float32), RATE).any()
    late = system().enhance(np.concatenate([np.zeros(RATE, np.float32), noise]), RATE)
    assert not late[: RATE - 512].any()
    np.testing.assert_allclose(rms_db(late[RATE:]), rms_db(system().enhance(noise, RATE)), atol=0.5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_gains_do_not_depend_on_the_level(system):
    noisy = speech(2.0)
    np.testing.assert_allclose(
        system().enhance(0.25 * noisy, RATE), 0.25 * system().enhance(noisy, RATE), atol=1e-4 * np.abs(noisy).max()
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_after_the_first_second_the_future_is_unknown(system):
    noisy = speech(3.0)
    changed = noisy.copy()
    changed[2 * RATE :] = white(1, -10)
    before = 2 * RATE - 512
    np.testing.assert_array_equal(
        system().enhance(noisy, RATE)[:before], system().enhance(changed, RATE)[:before], strict=True
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_another_rate_is_refused(system):
    with pytest.raises(ConfigError, match="44100 Hz, expected 16000 Hz"):
        system().enhance(np.zeros(100, np.float32), 44100)


def test_noise_is_known_within_two_decibels_also_after_a_jump():
    noise = np.concatenate([white(3, -50), white(5, -35, seed=1)])
    tracked, presence = track_noise(power_of(noise))
    tracked_db = 10 * np.log10(tracked[1:-1].mean(axis=0))
    assert np.abs(tracked_db[100:340] + 50).max() < 2
    # A jump looks like speech until it has lasted.
    assert presence[:, 380:385].mean() > 0.85
    assert np.abs(tracked_db[-200:-10] + 35).max() < 2


def test_a_start_in_the_middle_of_speech_is_not_taken_for_noise():
    power = power_of(speech(2.0, start_seconds=3.0, kind="clean") + white(2, -60))
    tracked, _ = track_noise(power)
    voiced = slice(4, 48)
    first_tenth_db = 10 * np.log10(power[voiced, 3:15].mean(axis=1)).mean()
    assert 10 * np.log10(tracked[voiced, :15]).mean() < first_tenth_db - 8


def test_presence_tells_speech_from_noise():
    time = np.arange(RATE) / RATE
    tone = (time > 0.5) * 0.1 * np.sin(2 * np.pi * 1000 * time)
    _, presence = track_noise(power_of(tone + white(1, -50)))
    peak = round(1000 / RATE * 512)
    assert presence[peak, 70:].min() > 0.98
    assert presence[peak, :55].mean() < 0.3
    assert presence[3 * peak, 70:-5].mean() < 0.3


def test_missing_scipy_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"'scipy', which is not installed: run .*sottovoce\[metrics\]"):
        LogMmse()
