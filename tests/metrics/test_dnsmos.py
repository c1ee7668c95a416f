import math
import sys

import numpy as np
import pytest

from sottovoce.errors import MissingExtraError
from sottovoce.metrics.dnsmos import _session, dnsmos

pytest.importorskip("speechmos")


@pytest.mark.parametrize("seconds", [2.4, 9.01, 10.5])
def test_agrees_with_the_authors_script(seconds, noisy):
    # It needs librosa, tqdm and pandas, which it does not declare.
    pytest.importorskip("librosa")
    from speechmos import dnsmos as script

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
