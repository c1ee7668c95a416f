import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import AudioError, MissingExtraError
from sottovoce.metrics.intrusive import hann_frames, is_silent, pesq, pesq_raw, segmental_snr, si_sdr, stoi

ALL = {
    "pesq_wb": pesq,
    "pesq_nb": lambda reference, estimate: pesq(reference, estimate, band="nb"),
    "stoi": stoi,
    "estoi": lambda reference, estimate: stoi(reference, estimate, extended=True),
    "si_sdr": si_sdr,
    "segmental_snr": segmental_snr,
}
repeatable = settings(derandomize=True, deadline=None, max_examples=30)


def noise(seed, samples=4000):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "best", "tolerance"),
    [
        ("pesq_wb", 4.644, 1e-3),
        ("pesq_nb", 4.549, 1e-3),
        ("stoi", 1.0, 1e-6),
        ("estoi", 1.0, 1e-6),
        ("si_sdr", 156.5, 1.0),
        ("segmental_snr", 35.0, 1e-6),
    ],
)
def test_reference_itself_has_the_greatest_score(name, best, tolerance, clean, noisy):
    assert ALL[name](clean, clean) == pytest.approx(best, abs=tolerance)
    assert ALL[name](clean, noisy) < best


@pytest.mark.parametrize("name", ALL)
def test_silence_is_undefined(name, clean):
    silence = np.zeros_like(clean)
    assert np.isnan(ALL[name](clean, silence))
    assert np.isnan(ALL[name](silence, clean))
    assert np.isnan(ALL[name](silence, silence))


def test_long_signals_are_scored_in_pieces_of_at_most_20_s(clean, noisy):
    # The reference code of PESQ breaks off the whole process when a signal has more than 50 utterances.
    repeats = 45  # 216 s: 11 pieces
    assert pesq(np.tile(clean, repeats), np.tile(noisy, repeats)) == pytest.approx(pesq(clean, noisy), abs=0.3)
    half_silent = np.concatenate([noisy, np.zeros(25 * 16_000, np.float32)])
    assert pesq(np.resize(clean, len(half_silent)), half_silent) > 1.0


@pytest.mark.parametrize("name", ["pesq_wb", "pesq_nb", "stoi", "estoi"])
@pytest.mark.parametrize("samples", [0, 1, 400, 3000])
def test_too_short_is_undefined(name, samples, clean, noisy):
    assert np.isnan(ALL[name](clean[20_000 : 20_000 + samples], noisy[20_000 : 20_000 + samples]))


def test_hardly_any_speech_has_no_stoi(clean, noisy):
    reference = np.zeros_like(clean)
    reference[20_000:22_000] = clean[20_000:22_000]
    assert np.isnan(stoi(reference, noisy))


@pytest.mark.parametrize("samples", [0, 599])
def test_segmental_snr_needs_two_frames(samples, clean, noisy):
    assert np.isnan(segmental_snr(clean[:samples], noisy[:samples]))


@pytest.mark.parametrize("name", ALL)
def test_unequal_signals_are_refused(name, clean):
    with pytest.raises(AudioError, match="equal length"):
        ALL[name](clean, clean[:-1])
    with pytest.raises(AudioError, match="equal length"):
        ALL[name](clean[None], clean[None])


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), offset=st.floats(-1.0, 1.0))
@repeatable
def test_si_sdr_ignores_scale_and_offset(seed, scale, offset):
    reference = noise(seed)
    estimate = reference + 0.3 * noise(seed + 1)
    assert si_sdr(reference, scale * estimate + offset) == pytest.approx(si_sdr(reference, estimate), abs=0.05)
    assert si_sdr(scale * reference + offset, estimate) == pytest.approx(si_sdr(reference, estimate), abs=0.05)


@given(snr_db=st.floats(-20.0, 40.0))
@repeatable
def test_si_sdr_is_the_snr_of_orthogonal_noise(snr_db):
    t = np.arange(1600) / 1600
    reference, disturbance = np.sin(2 * np.pi * 50 * t), np.cos(2 * np.pi * 50 * t)
    estimate = reference + 10 ** (-snr_db / 20) * disturbance
    assert si_sdr(reference, estimate) == pytest.approx(snr_db, abs=1e-6)


@given(seed=st.integers(0, 1000), gain=st.floats(1e-6, 1e3))
@repeatable
def test_segmental_snr_stays_in_its_range(seed, gain):
    assert -10.0 <= segmental_snr(noise(seed), noise(seed) + np.float32(gain) * noise(seed + 1)) <= 35.0


@given(raw=st.floats(-0.5, 4.5))
@repeatable
def test_raw_pesq_inverts_the_mapping_of_p862_1(raw):
    lqo = 0.999 + 4.0 / (1.0 + np.exp(-1.4945 * raw + 4.6607))
    assert pesq_raw(lqo) == pytest.approx(raw, abs=1e-9)


def test_raw_pesq_of_undefined_is_undefined():
    assert np.isnan(pesq_raw(float("nan")))


def test_frames_are_30_ms_with_75_percent_overlap():
    frames = hann_frames(np.ones(16_000))
    assert frames.shape == ((16_000 - 480) // 120, 480)
    assert np.allclose(frames[0], np.hanning(482)[1:-1])


def test_silence_is_below_100_db():
    assert is_silent(np.full(100, 0.9e-5))
    assert not is_silent(np.full(100, 1.1e-5))


@pytest.mark.parametrize(("package", "measure"), [("pesq", pesq), ("pystoi", stoi)])
def test_missing_package_names_the_extra(package, measure, clean, noisy, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*sottovoce\[metrics\]"):
        measure(clean, noisy)
