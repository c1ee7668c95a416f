"""Encoders and decoders: their delays, phasors, masks and first values."""

import numpy as np
import pytest
import torch

from sottovoce.config import ConvolutionSettings, FrontendSettings, TemporalSettings
from sottovoce.models.autoencoder import (
    AmplitudeDecoder,
    ConvStack,
    Encoder,
    MaskDecoder,
    PhaseDecoder,
    TemporalStack,
    aligned,
)
from sottovoce.models.blocks import Past

from ..systems import small_settings

CENTRED = small_settings("poster", model={"equalise": False}).model
CAUSAL = small_settings("default").model
INPUTS = 8
FRONTEND = FrontendSettings(windows=(16,), hop=8, loss_windows=(16,))  # 9 bins


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def stacks(causal):
    model = CAUSAL if causal else CENTRED
    convolution = ConvolutionSettings(widths=(6, 5, 4), kernel=5)
    temporal = TemporalSettings(width=6, dilations=(1, 2, 4), kernel=3)
    return {
        "convolution": (ConvStack(INPUTS, convolution, model, None), 3 * 2),
        "temporal": (TemporalStack(INPUTS, temporal, causal), 1 + 2 + 4),
        "amplitude decoder": (AmplitudeDecoder(INPUTS, 9, convolution, model), 4 * 2),
        "phase decoder": (PhaseDecoder(INPUTS, 9, convolution, model), 4 * 2),
    }


def reach(layer, delay, frames=41, centre=20):
    """Return the first and the last aligned frame that a change of one input frame reaches."""
    still = noise(1, INPUTS, frames)
    moved = still.clone()
    moved[..., centre] += 1
    with torch.no_grad():
        change = (aligned(layer, moved, delay) - aligned(layer, still, delay)).abs().amax(dim=(0, 1))
    reached = torch.nonzero(change > 0)[:, 0]
    return int(reached[0]) - centre, int(reached[-1]) - centre


@pytest.mark.parametrize("name", stacks(causal=False))
def test_centred_stacks_see_as_much_future_as_past(name):
    layer, delay = stacks(causal=False)[name]
    assert layer.delay == delay
    assert reach(layer.eval(), delay) == (-delay, delay)


@pytest.mark.parametrize("name", stacks(causal=True))
def test_causal_stacks_see_the_past_only(name):
    layer, delay = stacks(causal=True)[name]
    assert layer.delay == 0
    assert reach(layer.eval(), 0) == (0, 2 * delay)


def test_aligned_keeps_length_and_pads_no_layer():
    layer = stacks(causal=False)["convolution"][0].eval()
    frames = noise(1, INPUTS, 12)
    with torch.no_grad():
        assert aligned(layer, frames, layer.delay).shape == (1, 4, 12)
        # The end of a signal is silence at the input: the same as silence that was recorded.
        longer = torch.nn.functional.pad(frames, (0, 20))
        torch.testing.assert_close(aligned(layer, longer, layer.delay)[..., :12], aligned(layer, frames, layer.delay))


def test_encoder_ends_in_the_latent():
    same = Encoder(INPUTS, FRONTEND, ConvolutionSettings(widths=(6, CAUSAL.latent)), CAUSAL, None)
    assert same.latent is None
    features, latent = same(noise(1, INPUTS, 5), Past())
    assert features is latent
    wider = Encoder(INPUTS, FRONTEND, TemporalSettings(width=12, dilations=(1,)), CAUSAL, None)
    features, latent = wider(noise(1, INPUTS, 5), Past())
    assert (features.shape[1], latent.shape[1]) == (12, CAUSAL.latent)


def test_amplitude_is_never_negative():
    decoder = stacks(causal=True)["amplitude decoder"][0].eval()
    with torch.no_grad():
        assert (decoder(100 * noise(2, INPUTS, 20), Past()) >= 0).all()


@pytest.mark.parametrize("gain", [0.0, 1.0, 100.0])
def test_phasors_are_unit(gain):
    decoder = stacks(causal=True)["phase decoder"][0].eval()
    with torch.no_grad():
        cosine, sine = decoder(gain * noise(2, INPUTS, 20), Past()).chunk(2, dim=1)
    assert cosine.shape == (2, 9, 20)
    torch.testing.assert_close(cosine**2 + sine**2, torch.ones(2, 9, 20), atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", [CAUSAL, CENTRED], ids=["causal", "centred"])
def test_phase_decoder_begins_at_no_correction(model):
    decoder = PhaseDecoder(INPUTS, 257, ConvolutionSettings(widths=(32, 64), kernel=1), model).eval()
    with torch.no_grad():
        cosine, sine = decoder(noise(4, INPUTS, 50), Past()).chunk(2, dim=1)
    # Not exactly (weights are random, gradients shall flow), but nearly everywhere on the side of no correction.
    assert (cosine > 0).float().mean() > 0.9
    assert cosine.mean() > 0.75
    assert sine.mean().abs() < 0.1


@pytest.mark.parametrize("gain", [0.0, 1.0, 1e4])
def test_mask_never_amplifies(gain):
    decoder = MaskDecoder(INPUTS, FRONTEND, TemporalSettings(width=6, dilations=(1, 2)), causal=True)
    with torch.no_grad():
        decoder.network.output.conv.weight *= gain
        mask = decoder(noise(2, INPUTS, 20), noise(2, 9, 20, seed=1), Past())
    assert mask.shape == (2, 2, 9, 20)
    size = torch.linalg.vector_norm(mask, dim=1)
    # Below 1 but for the rounding of a tanh that is saturated.
    assert size.max() < 1 + 1e-6
    assert size.min() >= 0
    if gain <= 1:
        assert size.max() < 1


def test_mask_needs_the_guide():
    decoder = MaskDecoder(INPUTS, FRONTEND, TemporalSettings(width=6, dilations=(1,)), causal=True)
    features = noise(1, INPUTS, 5)
    with torch.no_grad():
        first, second = (decoder(features, noise(1, 9, 5, seed=seed), Past()) for seed in (1, 2))
    assert not torch.allclose(first, second)
