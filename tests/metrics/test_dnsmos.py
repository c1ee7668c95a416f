import math
import sys

import numpy as np
import pytest

from sottovoce.errors import MissingExtraError
from sottovoce.metrics.dnsmos import DnsmosMeter, _session, dnsmos

pytest.importorskip("speechmos")


@pytest.mark.parametrize("seconds", [2.4, 9.01, 10.5])
def test_agrees_with_the_authors_script(seconds, noisy, monkeypatch):
    # It needs librosa, tqdm and pandas, which it does not declare.
    pytest.importorskip("librosa")
    from speechmos import dnsmos as script

    # Of its fourth rating, P.808, alone: the first mel spectrum of librosa takes twenty seconds of compiling.
    monkeypatch.setattr(script.DNSMOS, "audio_melspec", lambda self, audio: np.zeros((900, 120)))
    signal = np.resize(noisy, int(seconds * 16_000))
    expected = script.run(signal, 16_000)
    assert dnsmos(signal) == pytest.approx([expected[f"{name}_mos"] for name in ("ovrl", "sig", "bak")], abs=1e-4)


def test_clean_speech_rates_better_than_noise(clean):
    noise = np.random.default_rng(0).standard_normal(len(clean)) * 0.1
    assert all(good > bad for good, bad in zip(dnsmos(clean), dnsmos(noise), strict=True))


@pytest.mark.parametrize("samples", [0, 16_000])
def test_silence_is_undefined(samples):
    assert all(map(math.isnan, dnsmos(np.zeros(samples, np.float32))))


def test_missing_package_names_the_extra(clean, monkeypatch):
    monkeypatch.setitem(sys.modules, "speechmos", None)
    _session.cache_clear()
    with pytest.raises(MissingExtraError, match=r"speechmos.*sottovoce\[metrics\]"):
        dnsmos(clean)


@pytest.mark.parametrize("seconds", [3.3, 11.2])
def test_blocks_are_rated_as_the_whole_is(clean, seconds):
    signal = np.resize(clean, int(16000 * seconds))
    meter = DnsmosMeter(16000)
    for start in range(0, len(signal), 7001):
        meter.push(np.stack([2 * signal[start : start + 7001], np.zeros_like(signal[start : start + 7001])]))
    np.testing.assert_allclose(meter.result(), dnsmos(signal), rtol=1e-5)


def test_the_memory_of_a_meter_does_not_grow(monkeypatch):
    monkeypatch.setattr("sottovoce.metrics.dnsmos._rate", lambda session, segment: [1.0, 2.0, 3.0])
    meter = DnsmosMeter(8000)
    for _ in range(100):
        meter.push(np.full((1, 8000), 0.1))
        assert len(meter._waiting) < 11 * 16000
    assert meter.result() == (1.0, 2.0, 3.0)
