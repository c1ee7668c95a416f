"""Frames at the model's rate: two parts that make the whole, gains that fit, channels that are enhanced together."""

import numpy as np
import pytest

from sottovoce.engine.frames import FrameStream
from sottovoce.engine.upper_band import UpperBand

from ..systems import speech

OPTIONS = {"floor": 0.0, "linked": False}


def noise(*shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


class FixedGains:
    """A model that gives every bin a gain of its own, and keeps what it received."""

    def __init__(self, model, gain):
        self.metadata = model.metadata
        self.initial_past = model.initial_past
        self.gain = gain
        self.received = []

    def run(self, spectra, past):
        self.received.append(spectra)
        return np.float32(self.gain)[:, np.newaxis] * spectra[:, :, : len(self.gain)], past


@pytest.fixture
def fixed(identity):
    """A model and its frames, without delay: a gain of 2 below 2 kHz, of 0.5 to 4 kHz, of 0.25 above."""
    bins = np.arange(identity.stft.bins[0]) * 16000 / identity.stft.window
    model = FixedGains(identity.model, np.select([bins < 2000, bins < 4000], [2.0, 0.5], 0.25))
    model.metadata = type(model.metadata)(**{**vars(model.metadata), "delay_frames": 0})
    return model, identity.stft


def test_parts_make_the_enhanced_signal(fixed):
    waveform = np.stack([speech(1.0), noise(16000)])
    enhanced, none = FrameStream(*fixed, 2, **OPTIONS).push(waveform, last=True)
    assert none is None
    difference, gains = FrameStream(*fixed, 2, **OPTIONS, upper_band=UpperBand(fixed[1], 16000, 16000, 2)).push(
        waveform, last=True
    )
    assert enhanced.shape == difference.shape == gains.shape == waveform.shape
    np.testing.assert_allclose(gains * waveform + difference, enhanced, atol=1e-5)


@pytest.mark.parametrize("linked", [False, True])
def test_missing_samples_complete_a_frame(fixed, linked):
    stream = FrameStream(*fixed, 2, **OPTIONS | {"linked": linked})
    for frames in range(1, 5):
        count = stream.missing
        assert count == fixed[1].hop
        stream.push(noise(2, count - 1))
        assert (stream.missing, len(fixed[0].received)) == (1, frames - 1)
        stream.push(noise(2, 1))
        assert len(fixed[0].received) == frames


def test_linked_channels_are_received_with_all_their_power(fixed):
    model, stft = fixed
    waveform = np.stack([noise(8000), -noise(8000), 0.5 * noise(8000, seed=1)])
    for linked in (False, True):
        FrameStream(model, stft, 3, **OPTIONS | {"linked": linked}).push(waveform)
    alone, together = model.received
    assert together.shape == (1, *alone.shape[1:])
    np.testing.assert_allclose(np.square(together).sum(axis=1)[0], np.square(alone).sum(axis=1).mean(axis=0), rtol=1e-4)


def test_linked_gains_are_bounded(fixed):
    # Painted speech where there is nothing to be scaled: no channel gets more than its share of it.
    model, stft = fixed
    model.run = lambda spectra, past: (np.ones_like(spectra), past)
    waveform = np.stack([noise(8000), np.zeros(8000, np.float32)])
    waveform[:, 3000:5000] *= np.float32(1e-12)
    enhanced, _ = FrameStream(model, stft, 2, **OPTIONS | {"linked": True}).push(waveform, last=True)
    painted, _ = FrameStream(model, stft, 1, **OPTIONS).push(waveform[:1], last=True)
    assert np.isfinite(enhanced).all()
    assert 0.1 < np.square(enhanced[0]).sum() / np.square(painted).sum() < 2.1
    assert not enhanced[1].any()
