"""Pauses before words, vowels that are held, and silence between words."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.data.simulation.delivery import (
    whispered,
    with_effort,
    with_held_vowel,
    with_pause,
    without_room_noise,
    word_starts,
)
from sottovoce.signal.levels import frame_power, rms_db

from ...systems import RATE, speech
from ..drawn import powers_db


def words(*spans, seconds=4.0):
    """White noise for words, at the times that are given, and hardly anything between them."""
    rng = np.random.default_rng(0)
    clip = 1e-4 * rng.standard_normal(round(seconds * RATE))
    for start, end in spans:
        part = slice(round(start * RATE), round(end * RATE))
        clip[part] = 0.1 * rng.standard_normal(part.stop - part.start)
    return clip.astype(np.float32)


def test_words_start_where_a_gap_ends():
    starts = word_starts(words((0.5, 1.0), (1.03, 1.5), (2.0, 3.0)), RATE)
    # The gap of 30 ms is none; a word begins 20 ms before its energy.
    np.testing.assert_allclose(starts / RATE, [0.48, 1.98], atol=0.011)


def test_noise_and_silence_have_no_words():
    assert not word_starts(words((0.0, 4.0)), RATE).size
    assert not word_starts(np.zeros(RATE, np.float32), RATE).size
    assert not word_starts(np.zeros(10, np.float32), RATE).size


@given(seed=st.integers(0, 1000), seconds=st.sampled_from([(0.3, 0.5), (1.0, 2.0), (30.0, 60.0)]))
def test_a_pause_is_silent_and_ends_with_a_word(seed, seconds):
    clip = words((0.5, 1.2), (2.0, 3.0))
    paused = with_pause(clip, seconds, RATE, np.random.default_rng(seed))
    assert paused.shape == clip.shape
    assert paused.dtype == np.float32
    silent = np.flatnonzero(np.diff(np.concatenate([[False], paused == 0, [False]]).astype(int))).reshape(-1, 2)
    # There may also be silence before the speech that came before, and behind the last word.
    lengths = [end - start for start, end in silent if end < paused.size]
    assert max(lengths) >= 0.3 * RATE - 1
    end = max((end for start, end in silent if end < paused.size), key=lambda end: end)
    onset = np.abs(paused[end : end + round(0.15 * RATE)])
    assert onset.max() > 0.01  # a word, perhaps of somebody who is further away
    if seconds[0] > 4:  # longer than the clip: nobody spoke before
        assert not paused[:end].any()


def test_a_clip_without_a_gap_stays():
    clip = words((0.0, 4.0))
    assert with_pause(clip, (0.3, 5.0), RATE, np.random.default_rng(0)) is clip
    short = words((0.1, 0.2), seconds=0.5)
    assert with_pause(short, (0.3, 5.0), RATE, np.random.default_rng(0)) is short


def test_room_noise_between_words_goes_and_words_stay():
    clip = words((0.5, 1.2), (1.25, 1.5), (2.0, 3.0))
    silenced = without_room_noise(clip, RATE)
    for start, end in ((0.5, 1.5), (2.0, 3.0)):  # a pause of 50 ms between words is theirs
        word = slice(round(start * RATE), round(end * RATE))
        np.testing.assert_array_equal(silenced[word], clip[word])
    for start, end in ((0.06, 0.46), (1.57, 1.96), (3.07, 3.97)):  # what stands beside the clip is unknown
        assert not silenced[round(start * RATE) : round(end * RATE)].any()


def test_digital_silence_hides_no_room_noise():
    clip = words((0.5, 1.2), (2.0, 3.0))
    clip[: round(0.3 * RATE)] = 0.0
    assert not without_room_noise(clip, RATE)[round(1.3 * RATE) : round(1.9 * RATE)].any()


def test_speech_stays_where_its_gaps_are_loud():
    rng = np.random.default_rng(1)
    noisy = words((0.5, 1.2), (2.0, 3.0)) + 0.02 * rng.standard_normal(4 * RATE).astype(np.float32)
    assert without_room_noise(noisy, RATE) is noisy
    silence = np.zeros(RATE, np.float32)
    assert without_room_noise(silence, RATE) is silence
    assert not without_room_noise(np.zeros(10, np.float32), RATE).any()


@pytest.mark.parametrize("seed", range(4))
def test_a_vowel_is_held(seed):
    clip = speech(3.0, kind="clean")
    held = with_held_vowel(clip, RATE, np.random.default_rng(seed))
    assert held.shape == clip.shape
    assert held.dtype == np.float32
    assert np.abs(held).max() <= 2.1 * np.abs(clip).max()
    # What is held repeats itself: 0.6 s of frames whose spectra are like their neighbours'.
    assert steady_seconds(held) > max(0.6, 2 * steady_seconds(clip))


def steady_seconds(clip, size=800):
    frames = clip[: clip.size // size * size].reshape(-1, size)
    spectra = np.log(np.abs(np.fft.rfft(frames * np.hanning(size)))[:, 5:150] + 1e-3)
    like = [np.corrcoef(one, other)[0, 1] > 0.8 for one, other in itertools.pairwise(spectra)]
    longest = run = 0
    for value in like:
        run = run + 1 if value else 0
        longest = max(longest, run)
    return longest * size / RATE


def test_noise_has_no_vowel():
    clip = words((0.0, 4.0))
    assert with_held_vowel(clip, RATE, np.random.default_rng(0)) is clip
    silence = np.zeros(RATE, np.float32)
    assert with_held_vowel(silence, RATE, np.random.default_rng(0)) is silence


def test_whispering_has_the_envelope_and_no_voice():
    clip = speech(3.0, kind="clean")
    sound = whispered(clip, RATE, np.random.default_rng(0))
    assert sound.shape == clip.shape
    assert sound.dtype == np.float32
    assert -20.1 < rms_db(sound) - rms_db(clip) < -7.9
    # When the clip is loud, the whispering is; and it is brighter.
    levels_db = [10 * np.log10(frame_power(part, 480) + 1e-12) for part in (clip, sound)]
    assert np.corrcoef(levels_db)[0, 1] > 0.7
    brightness = [np.subtract(*powers_db(part, (1000, 4000), (100, 400))) for part in (clip, sound)]
    assert brightness[1] > brightness[0] + 6
    # A voiced frame repeats itself after a period, noise does not.
    assert periodicity(sound) < 0.6 * periodicity(clip)


def periodicity(clip, size=800):
    """How like itself a loud frame is after the best lag between 70 and 400 Hz, median over frames."""
    frames = clip[: clip.size // size * size].reshape(-1, size)
    frames = frames[np.argsort(np.square(frames).sum(axis=1))[-20:]]
    best = []
    for frame in frames:
        correlation = np.correlate(frame, frame, "full")[size - 1 :]
        best.append(correlation[RATE // 400 : RATE // 70].max() / correlation[0])
    return np.median(best)


def test_whispering_and_speaking_up_begin_with_a_word():
    clip = words((0.5, 1.2), (2.0, 3.0))
    kinds = {"softer": 0, "louder": 0, "before": 0}
    for seed in range(40):
        changed = with_effort(clip, RATE, np.random.default_rng(seed))
        kinds["before"] += np.array_equal(changed[: round(1.9 * RATE)], clip[: round(1.9 * RATE)])
        after = rms_db(changed[2 * RATE :]) - rms_db(clip[2 * RATE :])
        assert -21 < after < 11
        kinds["softer" if after < 0 else "louder"] += 1
    assert kinds["softer"] > 10
    assert kinds["louder"] > 10
    assert 3 < kinds["before"] < 20


def test_speaking_up_is_brighter():
    clip = words((0.0, 4.0))
    louder = next(
        changed
        for changed in (with_effort(clip, RATE, np.random.default_rng(seed)) for seed in range(20))
        if rms_db(changed) > rms_db(clip)
    )
    low, high = np.subtract(powers_db(louder, (100, 500), (4000, 8001)), powers_db(clip, (100, 500), (4000, 8001)))
    assert 3 - 0.5 < high - low < 12.5


def test_silence_has_no_effort():
    silence = np.zeros(RATE, np.float32)
    for seed in range(4):
        assert not with_effort(silence, RATE, np.random.default_rng(seed)).any()
