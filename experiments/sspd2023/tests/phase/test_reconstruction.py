import numpy as np
import pytest

from sottovoce.signal.stft import MultiResolutionSTFT, sqrt_hann
from sspd2023.phase.measures import advance_error, inconsistency
from sspd2023.phase.reconstruction import (
    analyse,
    gaussian_variance,
    griffin_lim,
    heap_integration,
    phasors,
    synthesise,
)

WINDOW, HOP, SAMPLES = 256, 32, 4000
TIME = np.arange(SAMPLES)


def stft(gaussian=False):
    """Short-time transform; with the window for which the phase gradient is exact, or the product's."""
    transform = MultiResolutionSTFT((WINDOW,), HOP)
    if gaussian:
        window = np.exp(-((np.arange(WINDOW) - WINDOW / 2) ** 2) / (2 * 30.0**2))
        transform.analysis_tapers = [window]
    return transform


def rebuilt(signal, transform):
    spectrum = analyse(transform, signal)
    return spectrum, heap_integration(np.abs(spectrum), transform, np.random.default_rng(0))


def deviation(phases, spectrum, share):
    """Greatest difference of phases in rad, but for one offset of all, in bins above a share of the loudest."""
    loud = np.abs(spectrum) > share * np.abs(spectrum).max()
    differences = (phases * np.conj(phasors(spectrum)))[loud]
    return np.abs(np.angle(differences * np.conj(differences.mean()))).max()


def test_the_gaussian_that_is_most_like_a_window():
    exact = np.exp(-((np.arange(512) - 256) ** 2) / (2 * 50.0**2))
    assert gaussian_variance(exact) == pytest.approx(50.0**2, rel=0.01)
    # The square root of a Hann window, in the literature's unit of 2πv: wider than the Hann window's 0.25645 W².
    assert 2 * np.pi * gaussian_variance(sqrt_hann(1024)) / 1024**2 == pytest.approx(0.42, abs=0.02)
    assert 2 * np.pi * gaussian_variance(sqrt_hann(1024) ** 2) / 1024**2 == pytest.approx(0.25645, rel=0.04)


@pytest.mark.parametrize(
    "signal",
    [
        np.sin(2 * np.pi * 0.0713 * TIME) * np.hanning(SAMPLES),
        np.cos(2 * np.pi * (0.05 * TIME + 2e-5 * TIME**2)) * np.hanning(SAMPLES),
        np.eye(1, SAMPLES, 2001)[0],
    ],
    ids=["tone", "chirp", "click"],
)
def test_known_phases_come_back_but_for_one_offset(signal):
    spectrum, phases = rebuilt(signal, stft(gaussian=True))
    assert np.abs(phases) == pytest.approx(np.ones(spectrum.shape))
    assert deviation(phases, spectrum, 1e-2) < 0.1


def test_a_tone_between_bins_advances_by_its_frequency_with_the_products_window():
    spectrum, phases = rebuilt(np.sin(2 * np.pi * 0.0713 * TIME) * np.hanning(SAMPLES), stft())
    loud = np.abs(spectrum) > 0.3 * np.abs(spectrum).max()
    assert np.nanmax(advance_error(phases, spectrum)[loud]) < 3


def test_two_islands_have_each_their_own_offset():
    first, second = np.zeros((2, SAMPLES))
    first[:1500] = np.sin(2 * np.pi * 0.05 * TIME[:1500]) * np.hanning(1500)
    second[2500:] = np.sin(2 * np.pi * 0.2 * TIME[:1500]) * np.hanning(1500)
    _, phases = rebuilt(first + second, stft(gaussian=True))
    for alone in (first, second):
        assert deviation(phases, analyse(stft(gaussian=True), alone), 1e-2) < 0.1


def test_silent_bins_have_random_phases_of_the_seed():
    amplitude = np.zeros((129, 20))
    one, same, other = (heap_integration(amplitude, stft(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    assert np.isfinite(one).all()


def test_griffin_lim_makes_spectra_more_consistent_and_keeps_right_phases():
    transform, signal = stft(), np.random.default_rng(0).standard_normal(3000)
    spectrum = analyse(transform, signal)
    amplitude, shares = np.abs(spectrum), []
    current = np.exp(2j * np.pi * np.random.default_rng(1).uniform(size=spectrum.shape))
    for _ in range(4):
        shares.append(np.linalg.norm(inconsistency(amplitude * current, transform, 3000)))
        current = griffin_lim(amplitude, current, transform, 3000, iterations=2)
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.8 * shares[0]
    kept = griffin_lim(amplitude, phasors(spectrum), transform, 3000, iterations=3)
    assert np.abs(synthesise(transform, amplitude * kept, 3000) - signal).max() < 1e-9


def test_phasors_of_nothing_are_one():
    assert phasors(np.array([0j, 2j])) == pytest.approx(np.array([1, 1j]))
