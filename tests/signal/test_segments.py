"""Voice activity and noise-only stretches, on a synthetic voice whose pauses are known."""

import numpy as np
import pytest

from sottovoce.signal.levels import active_speech_db, noise_gain_for_snr, rms_db
from sottovoce.signal.segments import noise_only_stretches, voice_activity

RATE = 16000


def voice(seconds, rng, sample_rate=RATE):
    """Syllables of harmonics with a wandering pitch and two formants, an unvoiced burst before each."""
    pieces = []
    while sum(map(len, pieces)) < seconds * sample_rate:
        time = np.arange(round(rng.uniform(0.12, 0.25) * sample_rate)) / sample_rate
        pitch_hz = rng.uniform(100, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time))
        phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
        formants_hz = rng.uniform(300, 800), rng.uniform(1000, 2200)
        syllable = np.zeros(time.size)
        for harmonic in range(1, 20):
            weight = (
                sum(np.exp(-(((harmonic * pitch_hz.mean() - f) / 250) ** 2)) for f in formants_hz) + 0.05 / harmonic
            )
            syllable += weight * np.sin(harmonic * phase)
        fricative = 0.1 * rng.standard_normal(round(0.08 * sample_rate))
        pieces += [fricative, syllable * np.hanning(time.size) ** 0.5]
    return np.concatenate(pieces)[: round(seconds * sample_rate)]


def conversation(rng, sample_rate=RATE, pauses=(1.5, 2.0, 0.1, 3.0, 1.2), talk_seconds=4.0):
    """Speech with pauses, and where the pauses are in samples."""
    pieces, truth, position = [], [], 0
    for pause in pauses:
        pieces += [voice(talk_seconds, rng, sample_rate), np.zeros(round(pause * sample_rate))]
        start = position + len(pieces[-2])
        position = start + len(pieces[-1])
        truth.append((start, position))
    return np.concatenate(pieces).astype(np.float32), truth


def steady(samples, rng):
    """Noise that falls towards high frequencies."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    return np.fft.irfft(spectrum / np.sqrt(1 + np.arange(spectrum.size) / samples * 100), samples)


def clicks(samples, rng):
    """Bursts of 20 ms on a faint floor, three a second, at random."""
    noise = 0.01 * rng.standard_normal(samples)
    for start in rng.integers(0, samples - 320, 3 * samples // RATE):
        noise[start : start + 320] += rng.standard_normal(320) * np.exp(-np.arange(320) / 60)
    return noise


def test_voicing_tells_a_voice_from_noise():
    rng = np.random.default_rng(0)
    speech, _ = conversation(rng, pauses=(2.0, 2.0))
    activity = voice_activity(speech + 0.02 * steady(speech.size, rng).astype(np.float32), RATE)
    centres = np.arange(activity.voicing.size) * activity.hop + activity.window // 2
    talking = np.abs(speech)[centres] > 0.1
    assert np.median(activity.voicing[talking]) > 0.85
    pause = (centres > 4.3 * RATE) & (centres < 5.7 * RATE)
    assert np.median(activity.voicing[pause]) < 0.5
    assert activity.excess_db[talking].mean() > activity.excess_db[pause].mean() + 10


@pytest.mark.parametrize("kind", [steady, clicks])
@pytest.mark.parametrize("snr_db", [0, 5, 10, 15])
def test_stretches_hold_no_speech(kind, snr_db):
    rng = np.random.default_rng(snr_db)
    speech, truth = conversation(rng)
    noise = kind(speech.size, rng)
    noise *= noise_gain_for_snr(speech, noise, snr_db, RATE)
    stretches = noise_only_stretches((speech + noise).astype(np.float32), RATE)
    assert stretches == sorted(stretches)
    level_db = active_speech_db(speech, RATE)
    for start, end in stretches:
        assert 0 <= start < end <= speech.size
        assert rms_db(speech[start:end]) < level_db - 25
    found = sum(end - start for start, end in stretches)
    # A quarter of a second on either side of a pause is left alone.
    wanted = sum(end - start - RATE // 2 for start, end in truth if end - start > RATE)
    assert found > 0.6 * wanted or snr_db < 5


def test_other_rates_find_the_same():
    rng = np.random.default_rng(3)
    for sample_rate in (8000, 44100):
        speech, truth = conversation(rng, sample_rate, pauses=(1.5, 2.0))
        noisy = (speech + 0.05 * rng.standard_normal(speech.size)).astype(np.float32)
        stretches = noise_only_stretches(noisy, sample_rate)
        assert len(stretches) == len(truth)
        assert all(pause[0] <= start and end <= pause[1] for (start, end), pause in zip(stretches, truth, strict=True))


def test_nothing_is_found_without_pauses():
    rng = np.random.default_rng(4)
    speech = voice(20, rng)
    assert noise_only_stretches((speech + 0.05 * rng.standard_normal(speech.size)).astype(np.float32), RATE) == []


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros(100), np.zeros(RATE)], ids=["empty", "short", "silent"])
def test_nothing_is_found_in_nothing(waveform):
    assert noise_only_stretches(waveform.astype(np.float32), RATE) == []


def test_nothing_is_found_where_no_voice_is_clear():
    noise = np.random.default_rng(5).standard_normal(20 * RATE).astype(np.float32)
    assert noise_only_stretches(noise, RATE) == []


def test_short_stretches_are_left_out():
    rng = np.random.default_rng(6)
    speech, _ = conversation(rng, pauses=(1.5, 2.0, 3.0))
    noisy = (speech + 0.05 * rng.standard_normal(speech.size)).astype(np.float32)
    assert len(noise_only_stretches(noisy, RATE)) == 3
    assert all(end - start >= 2 * RATE for start, end in noise_only_stretches(noisy, RATE, min_seconds=2.0))
