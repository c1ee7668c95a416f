"""Equaliser, microphone and codec: what is linear is in every part, what is added is in the recording alone."""

import numpy as np
import pytest

from sottovoce.data.simulation.transmission import CODECS, coded, equalised, microphone_error
from sottovoce.signal.levels import rms_db

from ...systems import speech as spoken
from ..drawn import drawn, powers_db
from ..synthetic import RATE


def white(seed=0, seconds=2.0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_an_equaliser_is_linear_and_has_no_delay(seed):
    first, second = white(1), white(2)
    parts = equalised(np.stack([first + second, first, second]), RATE, np.random.default_rng(seed))
    assert parts.dtype == np.float32
    np.testing.assert_allclose(parts[0], parts[1] + parts[2], atol=1e-5)
    correlation = np.fft.irfft(np.fft.rfft(parts[1]) * np.conj(np.fft.rfft(first)))
    assert np.argmax(np.abs(correlation)) == 0


def test_equalisers_differ_by_as_much_as_devices_do():
    clip = white()
    bands = [(100, 300), (300, 1000), (1000, 3000), (3000, 7000)]
    gains = np.array(
        [
            np.subtract(powers_db(equalised(clip, RATE, np.random.default_rng(seed)), *bands), powers_db(clip, *bands))
            for seed in range(40)
        ]
    )
    assert np.all(np.abs(gains[:, 1:]) < 21)
    assert np.all(gains.std(axis=0) > 2)
    # In a half of them the lows are cut.
    assert np.mean(gains[:, 0] - gains[:, 1]) < -0.5


def test_a_microphone_adds_noise_below_the_speech_and_distorts_what_is_loud():
    clip = white()
    clip[: clip.size // 2] *= 0.01
    relative_db = []
    for seed in range(40):
        error = microphone_error(clip, RATE, np.random.default_rng(seed))
        heard = clip + error
        assert error.dtype == np.float32
        # Half of the clip is soft: what is there is self-noise alone.
        relative_db.append(rms_db(error[: clip.size // 2]) - rms_db(clip))
        assert np.abs(heard).max() <= 1.2 * np.abs(clip).max()
    assert min(relative_db) > -60.5
    assert max(relative_db) < -29.5
    clipped = [
        np.mean(np.abs(heard) > 0.999 * np.abs(heard).max())
        for heard in (clip + microphone_error(clip, RATE, np.random.default_rng(seed)) for seed in range(40))
    ]
    assert 4 < sum(share > 0.001 for share in clipped) < 20  # a quarter clips hard


def test_silence_stays():
    silence = np.zeros((3, RATE), np.float32)
    assert not microphone_error(silence[0], RATE, np.random.default_rng(0)).any()
    assert not coded(silence, 8000.0, RATE, np.random.default_rng(0)).any()
    assert not equalised(silence, RATE, np.random.default_rng(0)).any()


@pytest.mark.parametrize(("name", "most_db"), [("mu-law", -25), ("GSM", -3), ("ADPCM", -12), ("Vorbis", -3)])
def test_a_codec_adds_its_quantisation_in_place(name, most_db):
    clip = spoken(2.0, kind="clean")
    parts = coded(np.stack([clip, clip]), 8000.0, RATE, np.random.default_rng(1), name)
    error = parts[0] - parts[1]
    assert rms_db(error) < rms_db(parts[1]) + most_db
    assert rms_db(error) > rms_db(parts[1]) - 70
    correlation = np.fft.irfft(np.fft.rfft(parts[0]) * np.conj(np.fft.rfft(parts[1])))
    assert np.argmax(correlation) == 0


@pytest.mark.parametrize("name", [name for name, codec in CODECS.items() if codec.highest_hz < RATE / 2])
def test_what_a_codec_cannot_carry_is_in_no_part(name):
    parts = coded(np.stack([white(1), white(2)]), 8000.0, RATE, np.random.default_rng(1), name)
    highest_hz = CODECS[name].highest_hz
    for part in parts:
        below, above = powers_db(part, (100, 0.85 * highest_hz), (highest_hz + 20, 8001))
        assert above < below - 40


def test_what_is_added_does_not_reach_above_the_voice(speech, mixtures):
    shares = {"microphone_share": 1.0, "codec_share": 1.0, "equaliser_share": 1.0}
    simulation = shares | {"speech": {"speed": (0.8, 0.8)}}
    batch = drawn(speech, mixtures, simulated_clips=6, simulation=simulation).batch(0, "joint")
    for clips in (batch.simulated_mixtures, batch.simulated_targets):
        below, above = powers_db(clips, (100, 3000), (6500, 8001))
        assert np.all(above < below - 50)
        assert np.isfinite(clips).all()


@pytest.mark.parametrize("share", ["microphone_share", "codec_share"])
def test_noise_of_a_device_is_not_in_the_target(speech, mixtures, share):
    simulation = {"snr_db": (50.0, 50.0), "random_filter": 0.0}
    plain = drawn(speech, mixtures, simulated_clips=8, simulation=simulation).batch(0, "joint")
    noisy = drawn(speech, mixtures, simulated_clips=8, simulation=simulation | {share: 1.0}).batch(0, "joint")
    for mixture, target in zip(plain.simulated_mixtures, plain.simulated_targets, strict=True):
        assert rms_db(mixture - target) < rms_db(target) - 48
    for mixture, target in zip(noisy.simulated_mixtures, noisy.simulated_targets, strict=True):
        assert -49 < rms_db(mixture - target) - rms_db(target) < -3
