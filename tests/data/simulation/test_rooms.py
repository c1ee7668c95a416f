import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.simulation.rooms import Room, align, direct_sample, in_hall, read_room, simulate_room
from sottovoce.errors import DataError

from ..synthetic import RATE, write

pytest.importorskip("pyroomacoustics")


def direct_energy(response, sample_rate=RATE):
    direct, extent = direct_sample(sample_rate), sample_rate // 1000
    return np.square(response[direct - extent : direct + extent]).sum()


@pytest.fixture(scope="module")
def room():
    return simulate_room(np.random.default_rng(0), RATE, (0.3, 0.4))


def test_the_direct_sound_is_where_it_should_be(room):
    assert room.response.dtype == np.float32
    # pyroomacoustics removes the mean by a filter that also acts a little before the direct sound.
    assert np.square(room.response[: direct_sample(RATE) - 16]).sum() < 0.01
    assert direct_energy(room.response) == pytest.approx(1, abs=0.01)


def test_reverberation_lasts_as_long_as_was_asked(room):
    decay_db = 10 * np.log10(np.cumsum(np.square(room.response)[::-1])[::-1] / np.square(room.response).sum())
    # Time from -5 to -25 dB, three times: ISO 3382's T20. Sabine's formula is a rough one in a small room.
    t60_seconds = 3 * (np.argmax(decay_db < -25) - np.argmax(decay_db < -5)) / RATE
    assert 0.2 < t60_seconds < 0.6


def test_same_generator_same_room():
    one, other = (simulate_room(np.random.default_rng(5), RATE, (0.2, 0.3)).response for _ in range(2))
    np.testing.assert_array_equal(one, other)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator must be left alone
    simulate_room(np.random.default_rng(6), RATE, (0.2, 0.3))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_impossible_reverberation_is_reported():
    with pytest.raises(DataError, match=r"0\.01"):
        simulate_room(np.random.default_rng(0), RATE, (0.01, 0.02))


def test_early_and_full_add_up(room):
    early, full = room.early_and_full(50.0)
    border = direct_sample(RATE) + round(0.05 * RATE)
    np.testing.assert_array_equal(early[:border], full[:border])
    assert not early[border:].any()
    assert full[border:].any()


@given(st.integers(10, 3000), st.floats(0.1, 10), st.integers(1, 4000))
def test_speech_stays_in_place(delay, gain, samples):
    """A response of nothing but direct sound changes nothing, wherever it was and however loud; speech may be short."""
    response = np.zeros(4000)
    response[delay] = gain
    speech = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    only_direct = Room(align(response, RATE), RATE)
    np.testing.assert_allclose(only_direct.apply(speech), speech, atol=1e-5)
    np.testing.assert_allclose(only_direct.apply_early(speech), speech, atol=1e-5)


def test_a_stronger_reflection_is_not_the_direct_sound():
    response = np.zeros(2000)
    response[100], response[400] = 0.5, -1.0
    aligned = align(response, RATE)
    assert aligned[direct_sample(RATE)] == pytest.approx(1)
    assert aligned[direct_sample(RATE) + 300] == pytest.approx(-2)


def test_measured_rooms_are_read(tmp_path, room):
    write(tmp_path / "room.wav", (room.response / 4).astype(np.float32))
    np.testing.assert_allclose(read_room(tmp_path / "room.wav", RATE).response, room.response, atol=2e-3)
    assert direct_energy(read_room(tmp_path / "room.wav", 8000).response, 8000) == pytest.approx(1, abs=0.01)
    write(tmp_path / "silent.wav", np.zeros(100, np.float32))
    with pytest.raises(DataError, match="silent"):
        read_room(tmp_path / "silent.wav", RATE)


def test_a_damped_room_decays_sooner_and_keeps_its_early_sound():
    room = simulate_room(np.random.default_rng(3), RATE, (0.8, 0.8))
    click = np.zeros(RATE, np.float32)
    click[0] = 1.0
    start = round(0.05 * RATE)
    full, damped, none = room.apply(click), room.apply_damped(click, 0.3), room.apply_early(click)
    np.testing.assert_allclose(damped[:start], none[:start], atol=1e-6)

    def level_db(response, seconds):
        part = response[round(seconds * RATE) : round((seconds + 0.05) * RATE)]
        return 10 * np.log10(np.mean(np.square(part)))

    # From 0.1 to 0.25 s the level falls by 60 dB per reverberation time.
    for response, t60_seconds in ((full, 0.8), (damped, 0.3)):
        fall_db = level_db(response, 0.1) - level_db(response, 0.25)
        assert fall_db == pytest.approx(60 * 0.15 / t60_seconds, abs=4)
    # A room that is damped already stays as it is.
    np.testing.assert_allclose(room.apply_damped(click, 1.0), full, atol=1e-6)


def test_a_room_of_unknown_reverberation_time_is_not_damped():
    with pytest.raises(DataError, match="unknown reverberation time"):
        Room(np.ones(100, np.float32), RATE).apply_damped(np.zeros(10, np.float32), 0.3)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_from_further_away_reverberation_is_louder_than_direct_sound(ratio):
    room = simulate_room(np.random.default_rng(2), RATE, (0.4, 0.5))
    moved = room.from_further_away(ratio)

    def direct_to_reverberant_db(response):
        border = direct_sample(RATE) + round(0.001 * RATE)
        return 10 * np.log10(np.square(response[:border]).sum() / np.square(response[border:]).sum())

    change = direct_to_reverberant_db(moved.response) - direct_to_reverberant_db(room.response)
    assert change == pytest.approx(-20 * np.log10(ratio), abs=0.01)
    assert moved.t60_seconds == room.t60_seconds
    assert not np.shares_memory(moved.response, room.response)


def test_a_hall_blurs_what_is_in_it_and_goes_on():
    click = np.zeros(2 * RATE, np.float32)
    click[100] = 1.0
    for seed in range(5):
        heard = in_hall(click, RATE, np.random.default_rng(seed))
        assert not heard[:99].round(4).any()
        assert heard[100] == pytest.approx(1.0, abs=1e-3)
        assert np.square(heard[101:]).sum() == pytest.approx(1.0, abs=0.05)
        decay = np.cumsum(np.square(heard[101:])[::-1])[::-1]
        t60_seconds = 2 * np.flatnonzero(decay < 1e-3 * decay[0])[0] / RATE
        assert 0.45 < t60_seconds < 1.6
