"""Encoders and decoders: what they see, phasors, masks and first values."""

import numpy as np
import pytest
import torch

from sottovoce.config import BandSettings, ConvolutionSettings, FrontendSettings
from sottovoce.models.autoencoder import AmplitudeDecoder, ConvStack, Encoder, MaskDecoder, PhaseDecoder
from sottovoce.models.bands import BandMask, BandStack
from sottovoce.models.blocks import Past

INPUTS = 8
LATENT = 5
FRONTEND = FrontendSettings(window=16, hop=8, loss_windows=(16,))  # 9 bins
CONVOLUTION = ConvolutionSettings(widths=(6, 5, LATENT), kernel=5)
STACKS = {
    "convolution": (lambda: ConvStack(INPUTS, CONVOLUTION), 3),
    "amplitude decoder": (lambda: AmplitudeDecoder(INPUTS, 9, CONVOLUTION), 4),
    "phase decoder": (lambda: PhaseDecoder(INPUTS, 9, CONVOLUTION), 4),
}


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("name", STACKS)
def test_stacks_see_the_past_only(name):
    make, layers = STACKS[name]
    layer, still = make(), noise(1, INPUTS, 41)
    moved = still.clone()
    moved[..., 20] += 1
    with torch.no_grad():
        change = (layer(moved, Past()) - layer(still, Past())).abs().flatten(0, -2).amax(dim=0)
    reached = torch.nonzero(change > 0)[:, 0]
    assert (int(reached[0]), int(reached[-1])) == (20, 20 + 4 * layers)


def test_encoder_ends_in_the_latent():
    same = Encoder(ConvStack(INPUTS, CONVOLUTION), LATENT, LATENT)
    assert same.latent is None
    features, latent = same(noise(1, INPUTS, 5), Past())
    assert features is latent
    bands = BandStack(3, FRONTEND, BandSettings(width=4, blocks=1))
    features, latent = Encoder(bands, bands.width, LATENT)(noise(1, 3 * 9, 5), Past())
    assert (features.shape[1], latent.shape[1]) == (bands.width, LATENT)


def test_amplitude_is_never_negative():
    decoder = AmplitudeDecoder(INPUTS, 9, CONVOLUTION)
    with torch.no_grad():
        assert (decoder(100 * noise(2, INPUTS, 20), Past()) >= 0).all()


@pytest.mark.parametrize("gain", [0.0, 1.0, 100.0])
def test_phasors_are_unit(gain):
    decoder = PhaseDecoder(INPUTS, 9, CONVOLUTION)
    with torch.no_grad():
        phasors = decoder(gain * noise(2, INPUTS, 20), Past())
    assert phasors.shape == (2, 2, 9, 20)
    torch.testing.assert_close(phasors.square().sum(dim=1), torch.ones(2, 9, 20), atol=1e-4, rtol=0)


def test_phase_decoder_begins_at_no_correction():
    decoder = PhaseDecoder(INPUTS, 257, ConvolutionSettings(widths=(32, 64), kernel=1))
    with torch.no_grad():
        cosine, sine = decoder(noise(4, INPUTS, 50), Past()).unbind(dim=1)
    # Not exactly (weights are random, gradients shall flow), but nearly everywhere on the side of no correction.
    assert (cosine > 0).float().mean() > 0.9
    assert cosine.mean() > 0.75
    assert sine.mean().abs() < 0.1


def mask_decoder():
    """A mask, and the width of the features that it goes on from."""
    network = BandMask(FRONTEND, BandSettings(width=6, blocks=1))
    return MaskDecoder(network), 6 * len(network.guide.bias)


@pytest.mark.parametrize("gain", [0.0, 1.0, 1e4])
def test_mask_never_amplifies(gain):
    decoder, width = mask_decoder()
    with torch.no_grad():
        for weight in decoder.network.merge.weights:
            weight.mul_(gain)
        mask = decoder(noise(2, width, 20), noise(2, 9, 20, seed=1), Past())
    assert mask.shape == (2, 2, 9, 20)
    size = torch.linalg.vector_norm(mask, dim=1)
    # Below 1 but for the rounding of a tanh that is saturated.
    assert size.max() < 1 + 1e-6
    assert size.min() >= 0
    if gain <= 1:
        assert size.max() < 1


def test_mask_needs_the_guide():
    decoder, width = mask_decoder()
    features = noise(1, width, 5)
    with torch.no_grad():
        first, second = (decoder(features, noise(1, 9, 5, seed=seed), Past()) for seed in (1, 2))
    assert not torch.allclose(first, second)
