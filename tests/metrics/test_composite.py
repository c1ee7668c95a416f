import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import AudioError
from sottovoce.metrics.composite import composite, llr, wss

repeatable = settings(derandomize=True, deadline=None, max_examples=40)
finite = st.floats(-1e3, 1e3)


@given(pesq=finite, likelihood=finite, slope=finite, snr=finite)
@repeatable
def test_ratings_stay_between_1_and_5(pesq, likelihood, slope, snr):
    ratings = composite(pesq=pesq, llr=likelihood, wss=slope, segmental_snr=snr)
    assert all(1.0 <= rating <= 5.0 for rating in ratings)


def test_ratings_without_pesq_are_undefined():
    assert all(map(math.isnan, composite(pesq=math.nan, llr=0.5, wss=20.0, segmental_snr=5.0)))


def test_ratings_follow_the_published_equations():
    ratings = composite(pesq=2.0, llr=0.5, wss=20.0, segmental_snr=5.0)
    assert ratings.csig == pytest.approx(3.093 - 1.029 * 0.5 + 0.603 * 2.0 - 0.009 * 20.0)
    assert ratings.cbak == pytest.approx(1.634 + 0.478 * 2.0 - 0.007 * 20.0 + 0.063 * 5.0)
    assert ratings.covl == pytest.approx(1.594 + 0.805 * 2.0 - 0.512 * 0.5 - 0.007 * 20.0)


@pytest.mark.parametrize("distance", [llr, wss])
def test_distances_of_the_reference_itself_are_zero(distance, clean, noisy):
    assert distance(clean, clean) == 0.0
    assert distance(clean, noisy) > 0.0


@pytest.mark.parametrize("distance", [llr, wss])
def test_distances_of_silent_or_too_short_signals_are_undefined(distance, clean):
    assert np.isnan(distance(clean, np.zeros_like(clean)))
    assert np.isnan(distance(np.zeros_like(clean), clean))
    assert np.isnan(distance(clean[:599], clean[:599]))


@pytest.mark.parametrize("distance", [llr, wss])
def test_unequal_signals_are_refused(distance, clean):
    with pytest.raises(AudioError, match="equal length"):
        distance(clean, clean[:-1])


def test_llr_ignores_level(clean, noisy):
    assert llr(clean, 0.1 * noisy) == pytest.approx(llr(clean, noisy), abs=1e-6)


def signal(kind, seed):
    t = np.arange(4800)
    waveform = {
        "noise": np.random.default_rng(seed).standard_normal(len(t)),
        "sine": np.sin((0.01 + 0.001 * seed) * t),
        "constant": np.ones(len(t)),
        "impulse": (t == 1000 + seed).astype(float),
        "half silent": np.where(t < 2400, 0.0, np.random.default_rng(seed).standard_normal(len(t))),
    }[kind]
    return waveform.astype(np.float32)


kinds = st.sampled_from(["noise", "sine", "constant", "impulse", "half silent"])


@given(first=kinds, second=kinds, seed=st.integers(0, 1000))
@repeatable
def test_distances_are_finite_for_odd_signals(first, second, seed):
    for distance in (llr, wss):
        value = distance(signal(first, seed), signal(second, seed + 1))
        assert np.isfinite(value)
        assert value > -1e-6
