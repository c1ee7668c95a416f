"""Ratio masks: their bounds, and what they give back."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sspd2023.baselines import ratio_masks


def spectra(limit, smallest=0.0):
    """Complex arrays with parts up to a limit."""
    values = st.complex_numbers(min_magnitude=smallest, max_magnitude=limit, allow_nan=False, allow_infinity=False)
    return arrays(np.complex128, 12, elements=values)


def complex_ratio_mask(mixture, speech):
    return ratio_masks.complex_ratio_mask(torch.from_numpy(mixture), torch.from_numpy(speech)).numpy()


def ideal_ratio_mask(speech, noise):
    return ratio_masks.ideal_ratio_mask(torch.from_numpy(speech), torch.from_numpy(noise)).numpy()


def compress(mask):
    return ratio_masks.compress(torch.from_numpy(mask)).numpy()


def decompress(compressed):
    return ratio_masks.decompress(torch.from_numpy(compressed)).numpy()


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


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10])
def test_masks_of_float32_are_finite(size):
    parts = size * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    speech, mixture = (torch.complex(*part) for part in (parts, parts.flip(-1)))
    assert torch.isfinite(ratio_masks.compress(ratio_masks.complex_ratio_mask(mixture, speech))).all()
    assert torch.isfinite(ratio_masks.ideal_ratio_mask(speech, mixture - speech)).all()
