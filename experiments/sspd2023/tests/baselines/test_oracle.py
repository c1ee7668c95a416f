"""Oracle masks: their bounds, what they give back, and that they need the right answer."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.systems import RATE, speech

from sottovoce.errors import AudioError, ConfigError
from sottovoce.signal.levels import rms_db
from sspd2023.baselines.oracle import OracleMask, complex_ratio_mask, compress, decompress, ideal_ratio_mask


def spectra(limit, smallest=0.0):
    """Complex arrays with parts up to a limit."""
    values = st.complex_numbers(min_magnitude=smallest, max_magnitude=limit, allow_nan=False, allow_infinity=False)
    return arrays(np.complex128, 12, elements=values)


def error_db(reference, estimate):
    """Return the level of the error relative to the signal."""
    return rms_db(estimate - reference) - rms_db(reference)


@settings(deadline=None, derandomize=True)
@given(spectra(1e6), spectra(1e6))
@example(np.zeros(12, np.complex128), np.zeros(12, np.complex128))
def test_a_ratio_mask_is_a_share(wanted, rest):
    mask = ideal_ratio_mask(wanted, rest)
    assert (mask >= 0).all()
    assert (mask <= 1).all()
    # Its square and that of the noise's mask share the whole, except in silence.
    both = mask**2 + ideal_ratio_mask(rest, wanted) ** 2
    np.testing.assert_allclose(both, (wanted != 0) | (rest != 0), atol=1e-12)


def test_ratio_mask_of_equal_parts():
    assert ideal_ratio_mask(np.array([3 + 4j]), np.array([5j]))[0] == pytest.approx(np.sqrt(0.5))


@settings(deadline=None, derandomize=True)
@given(spectra(1e6, smallest=1e-9))
def test_complex_mask_of_the_mixture_itself_is_one(mixture):
    np.testing.assert_allclose(complex_ratio_mask(mixture, mixture), 1 + 0j, atol=1e-12)


@settings(deadline=None, derandomize=True)
@given(spectra(1e3, smallest=1e-3), spectra(1e3))
def test_complex_mask_turns_the_mixture_into_speech(mixture, wanted):
    mask = complex_ratio_mask(mixture, wanted)
    np.testing.assert_allclose(mask * mixture, wanted, rtol=1e-9, atol=1e-9)
    power = np.abs(mixture) ** 2
    np.testing.assert_allclose(
        mask.real, (mixture.real * wanted.real + mixture.imag * wanted.imag) / power, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        mask.imag, (mixture.real * wanted.imag - mixture.imag * wanted.real) / power, rtol=1e-6, atol=1e-6
    )


def test_complex_mask_of_silence_is_zero():
    np.testing.assert_array_equal(complex_ratio_mask(np.zeros(3, np.complex128), np.ones(3, np.complex128)), 0)


@settings(deadline=None, derandomize=True)
@given(spectra(10))
def test_compression_is_undone(mask):
    np.testing.assert_allclose(decompress(compress(mask)), mask, atol=1e-9)


@settings(deadline=None, derandomize=True)
@given(spectra(1e9))
def test_compression_is_bounded_and_so_is_its_inverse(mask):
    compressed = compress(mask)
    assert (np.maximum(np.abs(compressed.real), np.abs(compressed.imag)) <= 10).all()
    back = decompress(compressed)
    assert np.isfinite(back).all()
    assert (np.abs(back.real) <= np.maximum(76.1, np.abs(mask.real))).all()


def test_compression_has_the_published_values():
    value = 10 * (1 - np.exp(-0.1 * 3)) / (1 + np.exp(-0.1 * 3))
    assert compress(np.array([3 - 3j]))[0] == pytest.approx(value * (1 - 1j))


def test_a_complex_oracle_is_far_better_than_a_ratio():
    clean, noisy = speech(2.0, kind="clean"), speech(2.0)
    ratio = OracleMask(clean, "irm").enhance(noisy, RATE)
    whole = OracleMask(clean, "cirm").enhance(noisy, RATE)
    assert error_db(clean, ratio) < error_db(clean, noisy) - 3
    assert error_db(clean, whole) < error_db(clean, ratio) - 20


def test_the_limit_of_the_compression_counts():
    # A mixture in which noise has cancelled the speech almost wholly: the mask that mends it is beyond the limit.
    clean = speech(1.0, kind="clean")
    enhanced = OracleMask(clean, "cirm").enhance(0.001 * clean, RATE)
    np.testing.assert_allclose(enhanced, 0.076 * clean, atol=1e-4)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(["irm", "cirm"]), st.integers(0, 3000), st.sampled_from([(1024, 256), (512, 128), (64, 32)]))
@example("cirm", 1, (1024, 256))
@example("irm", 1023, (1024, 256))
def test_length_is_kept_and_a_clean_mixture_stays(kind, samples, frame):
    window, hop = frame
    clean = speech(0.2, kind="clean")[:samples]
    enhanced = OracleMask(clean, kind, window=window, hop=hop).enhance(clean, RATE)
    assert enhanced.dtype == np.float32
    np.testing.assert_allclose(enhanced, clean, atol=1e-6, strict=True)


@pytest.mark.parametrize("kind", ["irm", "cirm"])
def test_silence_stays_silent(kind):
    silence, noise = np.zeros(RATE, np.float32), speech(1.0)
    assert not OracleMask(noise, kind).enhance(silence, RATE).any()
    assert not OracleMask(silence, kind).enhance(noise, RATE).any()


def test_the_speech_of_another_mixture_is_refused():
    with pytest.raises(AudioError, match=r"mixture of shape \(99,\) for a reference of shape \(100,\)"):
        OracleMask(np.zeros(100, np.float32), "irm").enhance(np.zeros(99, np.float32), RATE)


def test_another_rate_is_refused():
    with pytest.raises(ConfigError, match="8000 Hz, expected 16000 Hz"):
        OracleMask(np.zeros(100, np.float32), "irm").enhance(np.zeros(100, np.float32), 8000)
