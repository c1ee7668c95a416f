"""Oracle masks: what they give back, and that they need the right answer."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.systems import RATE, speech

from sottovoce.errors import AudioError, ConfigError
from sottovoce.signal.levels import rms_db
from sspd2023.baselines.oracle import OracleMask


def error_db(reference, estimate):
    """Return the level of the error relative to the signal."""
    return rms_db(estimate - reference) - rms_db(reference)


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
