import math

import numpy as np
import pytest

from sottovoce.signal.stft import MultiResolutionSTFT
from sspd2023.phase.measures import CENTRES_DB, EDGES_DB, advance_error, curves, inconsistency, phase_error
from sspd2023.phase.reconstruction import analyse

STFT = MultiResolutionSTFT((256,), 64)
SAMPLES = 4000


@pytest.fixture(scope="module")
def speech():
    return analyse(STFT, np.random.default_rng(0).standard_normal(SAMPLES))


@pytest.fixture(scope="module")
def noise():
    return analyse(STFT, np.random.default_rng(1).standard_normal(SAMPLES))


def test_the_spectrum_of_a_signal_is_consistent(speech):
    assert np.abs(inconsistency(speech, STFT, SAMPLES)).max() < 1e-12


def test_phases_of_another_signal_are_inconsistent(speech, noise):
    swapped = np.abs(speech) * np.exp(1j * np.angle(noise))
    share = np.abs(inconsistency(swapped, STFT, SAMPLES)) ** 2
    assert share.sum() > 0.1 * (np.abs(swapped) ** 2).sum()
    # What is left after taking the inconsistent part away is a signal's.
    assert np.abs(inconsistency(swapped - inconsistency(swapped, STFT, SAMPLES), STFT, SAMPLES)).max() < 1e-12


def test_phase_errors_wrap():
    degrees = np.array([359.0, 90.0, 180.0, 10.0])
    against = np.array([1.0, 0.0, -180.0, 350.0])
    errors = phase_error(3 * np.exp(1j * np.radians(degrees)), np.exp(1j * np.radians(against)))
    assert errors == pytest.approx([2, 90, 0, 20])


def test_chance_is_ninety_degrees(speech, noise):
    assert phase_error(speech, noise).mean() == pytest.approx(90, abs=2)
    random = np.exp(2j * np.pi * np.random.default_rng(2).uniform(size=speech.shape))
    assert np.nanmean(advance_error(random, speech)) == pytest.approx(90, abs=2)
    # Frames that overlap advance by about their bin's frequency, whatever the signal.
    assert np.nanmean(advance_error(noise, speech)) < 60


def test_an_offset_that_stays_is_no_error_of_the_advance(speech):
    turned = speech * np.exp(0.7j)
    assert phase_error(turned, speech) == pytest.approx(np.full(speech.shape, np.degrees(0.7)))
    errors = advance_error(turned, speech)
    assert np.isnan(errors[:, 0]).all()
    assert np.abs(errors[:, 1:]).max() < 1e-4


def test_curves_stand_at_the_local_ratio(speech):
    # The noise is the speech, 10 dB below it and turned by 90°: every bin has one ratio.
    mixture = speech * (1 + 1j * 10 ** (-10 / 20) * 0.999)
    measured = curves(mixture, speech, mixture, STFT, SAMPLES)
    filled = [index for index, value in enumerate(measured.phase_degrees) if not math.isnan(value)]
    (index,) = filled
    assert EDGES_DB[index] == 10
    assert measured.phase_degrees[index] == pytest.approx(math.degrees(math.atan(10 ** (-0.5) * 0.999)))
    assert measured.advance_degrees[index] < 1e-4
    assert len(measured.phase_degrees) == len(CENTRES_DB)


def test_signals_have_curves_without_inconsistency(speech, noise):
    measured = curves(speech + noise, speech, speech + noise, STFT, SAMPLES)
    defined = [value for value in measured.inconsistency_db if not math.isnan(value)]
    assert len(defined) > 5
    assert max(defined) < -150


def test_ratios_beyond_the_edges_are_in_the_outermost_classes(speech, noise):
    loud = curves(speech, speech, speech + 1e3 * noise, STFT, SAMPLES)
    clean = curves(speech, speech, speech, STFT, SAMPLES)
    assert not math.isnan(loud.phase_degrees[0])
    assert [math.isnan(value) for value in clean.phase_degrees] == [True] * (len(CENTRES_DB) - 1) + [False]


def test_silence_has_no_curves():
    silence = np.zeros((129, STFT.frame_count(SAMPLES)), np.complex128)
    assert all(math.isnan(value) for value in curves(silence, silence, silence, STFT, SAMPLES).inconsistency_db)
