import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import AudioError
from sottovoce.signal.levels import (
    SILENCE_DB,
    SpeechActivity,
    active_speech_db,
    frame_power,
    from_db,
    noise_gain_for_snr,
    peak_gain,
    rms,
    rms_db,
    to_db,
)

RATE = 16000


def talk(seconds=3.0, level_db=-26.0, seed=0):
    """Noise with the rhythm of syllables: four a second, 15 dB deep."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    envelope = from_db(-7.5 + 7.5 * np.sin(2 * np.pi * 4 * time))
    return (from_db(level_db) * envelope * rng.standard_normal(time.size)).astype(np.float32)


@given(st.floats(-99, 40))
def test_decibels_there_and_back(level_db):
    assert to_db(from_db(level_db)) == pytest.approx(level_db)


def test_silence_has_a_finite_level():
    assert to_db(0.0) == SILENCE_DB
    assert rms_db(np.zeros(100)) == SILENCE_DB
    assert rms(np.zeros(0)) == 0
    assert active_speech_db(np.zeros(RATE, np.float32), RATE) == SILENCE_DB
    assert active_speech_db(np.zeros(3, np.float32), RATE) == SILENCE_DB


def test_rms_of_a_sine():
    sine = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert rms_db(sine) == pytest.approx(-3.01, abs=0.01)


def test_active_level_of_steady_sound_is_its_rms():
    noise = np.random.default_rng(0).standard_normal(5 * RATE) * 0.1
    assert active_speech_db(noise, RATE) == pytest.approx(rms_db(noise), abs=0.1)


@given(st.floats(0.5, 10.0))
def test_pauses_do_not_change_the_active_level(pause_seconds):
    speech = talk()
    with_pause = np.concatenate([speech, np.zeros(round(pause_seconds * RATE), np.float32), speech])
    assert active_speech_db(with_pause, RATE) == pytest.approx(active_speech_db(speech, RATE), abs=0.5)


@given(st.floats(-60, 10))
def test_active_level_follows_the_gain(gain_db):
    speech = talk()
    louder = active_speech_db(speech * from_db(gain_db), RATE)
    assert louder == pytest.approx(active_speech_db(speech, RATE) + gain_db, abs=1e-3)


@given(st.floats(-20, 40), st.floats(-60, 0))
def test_noise_gets_the_wanted_ratio(snr_db, noise_db):
    speech = talk()
    noise = from_db(noise_db) * np.random.default_rng(1).standard_normal(speech.size)
    gain = noise_gain_for_snr(speech, noise, snr_db, RATE)
    assert active_speech_db(speech, RATE) - rms_db(gain * noise) == pytest.approx(snr_db, abs=1e-6)


@pytest.mark.parametrize(("silent", "name"), [(0, "speech"), (1, "noise")])
def test_silence_has_no_ratio(silent, name):
    signals = [talk(), talk(seed=1)]
    signals[silent] = np.zeros_like(signals[silent])
    with pytest.raises(AudioError, match=f"silent {name}"):
        noise_gain_for_snr(*signals, 0.0, RATE)


def test_peak_gain_only_lowers():
    quiet, loud = np.array([0.1, -0.2]), np.array([0.5, -2.0])
    assert peak_gain([quiet]) == 1
    assert np.abs(loud).max() * peak_gain([quiet, loud], 0.9) == pytest.approx(0.9)
    assert peak_gain([]) == 1


def test_frame_power_is_the_mean_square_of_whole_frames():
    np.testing.assert_allclose(frame_power(np.array([3.0, 4.0, 0.0, 2.0, 9.0]), 2), [12.5, 2.0])
    assert frame_power(np.ones(3), 4).shape == (0,)


def activity(waveform, *, cuts=(), rate=RATE):
    meter = SpeechActivity(rate)
    for block in np.split(np.atleast_2d(waveform), cuts, axis=1):
        meter.push(block)
    return meter.share


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_share_of_speech_is_that_of_the_time_in_which_somebody_talks(share):
    speech = talk(seconds=20.0)
    speech[round(share * speech.size) :] *= from_db(-50)
    # The hangover adds a fifth of a second.
    assert activity(speech) == pytest.approx(share + 0.01, abs=0.01)


def test_the_share_of_speech_explains_the_active_level():
    """P.56: the energy of all of it is that of the active level over the active time."""
    speech = talk(seconds=10.0)
    speech[60_000:] *= from_db(-40)
    assert rms_db(speech) - 10 * np.log10(activity(speech)) == pytest.approx(active_speech_db(speech, RATE), abs=0.1)


@given(st.lists(st.integers(0, 3 * RATE), max_size=8), st.floats(-40, 20))
def test_the_share_of_speech_depends_on_neither_blocks_nor_level(cuts, gain_db):
    speech = talk()
    speech[RATE:] *= from_db(-45)
    assert activity(speech * from_db(gain_db), cuts=sorted(cuts)) == pytest.approx(activity(speech), abs=0.02)


def test_silence_and_nothing_have_no_speech():
    assert activity(np.zeros(RATE)) == 0
    assert activity(np.zeros(0)) == 0
    assert activity(np.ones(3)) == 0
    assert activity(np.ones((2, RATE)) * [[1e6], [0.0]]) == 1
