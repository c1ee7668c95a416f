"""CF: a mask between 0 and 1 from spectra and frozen features, on the mixture's phase."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.systems import speech

from sottovoce.config import FrontendSettings
from sottovoce.objectives.joint import UnpairedTensors
from sspd2023.baselines.cf import CrossDomain, LayerSum
from sspd2023.baselines.pvq import signal_level
from sspd2023.settings import CrossDomainSettings, VectorQuantisedSettings

SMALL = CrossDomainSettings(
    width=12,
    layers=2,
    features=VectorQuantisedSettings(channels=4, layers=3, width=16, heads=2, blocks=2, context=8, codes=4),
)
HOP = 4**3


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def system(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CrossDomain(FrontendSettings(), SMALL)


def batch(samples=4000, clips=2, seed=0):
    """Return clips of real noisy and clean speech."""
    starts = [2.0 + seed + 0.3 * clip for clip in range(clips)]
    noisy, clean = (
        torch.stack([torch.from_numpy(speech(samples / 16000, start, kind)) for start in starts])
        for kind in ("noisy", "clean")
    )
    return UnpairedTensors(clean[:0], noisy.flip(1), noisy[:0], noisy, clean, clean, torch.zeros(len(clean), 2))


def mask(model, waveform):
    """Return the mask of a mixture in the scale of its level, and its spectra."""
    scaled = waveform / signal_level(waveform)
    spectrum = model._stft.analyse(scaled)
    return model.mask(scaled, spectrum), spectrum


@settings(max_examples=25, deadline=None)
@given(clips=st.integers(1, 3), samples=st.integers(1, 1500))
def test_signals_of_any_length_keep_their_shape(clips, samples):
    waveform = torch.randn(clips, samples, generator=draw())
    enhanced = system().eval().enhance(waveform)
    assert enhanced.shape == waveform.shape
    assert torch.isfinite(enhanced).all()
    assert not enhanced.requires_grad


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 1500), level_db=st.integers(-80, 0))
def test_the_mask_lies_between_0_and_1(samples, level_db):
    with torch.no_grad():
        values, spectrum = mask(system(), 10 ** (level_db / 20) * torch.randn(2, samples, generator=draw()))
    assert values.shape == (2, 201, spectrum.shape[-1])
    assert values.min() >= 0
    assert values.max() <= 1


def test_a_mask_of_1_gives_back_the_mixture_and_one_of_0_silence():
    model = system().eval()
    waveform = batch().simulated_mixtures
    with torch.no_grad():
        model.network.project_out.bias.fill_(50.0)
        torch.testing.assert_close(model.enhance(waveform), waveform, rtol=1e-4, atol=1e-6)
        model.network.project_out.bias.fill_(-50.0)
        assert model.enhance(waveform).abs().max() < 1e-6


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_the_weights_of_the_layers_add_up_to_1(importance):
    layers = LayerSum(3, 4)
    with torch.no_grad():
        layers.importance.copy_(torch.tensor(importance))
    weights = layers.weights()
    assert float(weights.sum().detach()) == pytest.approx(1, abs=1e-5)
    assert (weights >= 0).all()
    # The same frames in all layers are their own mean, and the size of a layer does not matter.
    frames = torch.randn(2, 4, 7, generator=draw())
    expected = torch.nn.functional.layer_norm(frames.mT, (4,)).mT
    torch.testing.assert_close(layers([frames, 10 * frames, 100 * frames]), expected, rtol=1e-3, atol=1e-3)


def test_features_meet_the_spectrum_at_the_same_time():
    # A feature that is the time of its newest samples' middle, read where the middle of each spectral frame lies.
    model = system()
    time = (torch.arange(100) + 0.5) * HOP
    at_spectrum = model._at_spectrum_rate(time.expand(1, 1, -1), 41)[0, 0]
    middle = (torch.arange(41) + 1) * 160.0 - 200
    torch.testing.assert_close(at_spectrum, middle.clamp(time[0], time[-1]))


def test_the_frozen_encoder_gets_no_gradient():
    model = system()
    sum(model.terms(batch(), draw()).values()).backward()
    assert all(p.grad is not None for part in model.trained_parts() for p in part.parameters())
    assert all(p.grad is None for part in model.pretrained_parts() for p in part.parameters())
    trained = {p for part in (*model.trained_parts(), *model.pretrained_parts()) for p in part.parameters()}
    assert trained == set(model.parameters())


def test_pretraining_hears_the_mixtures_alone():
    model, clips, other = system(), batch(), batch(seed=1)
    expected = model.pretraining_terms(clips, draw())
    torch.testing.assert_close(model.pretraining_terms(other._replace(mixtures=clips.mixtures), draw()), expected)
    changed = model.pretraining_terms(clips._replace(mixtures=other.mixtures), draw())
    assert not torch.equal(changed["masked_prediction"], expected["masked_prediction"])
    expected["masked_prediction"].backward()
    assert all(p.grad is not None for part in model.pretrained_parts() for p in part.parameters())


@pytest.mark.parametrize("stage", ["pretraining", "training"])
def test_one_batch_is_learned(stage):
    model = system()
    parts, terms = (
        (model.pretrained_parts(), model.pretraining_terms)
        if stage == "pretraining"
        else (model.trained_parts(), model.terms)
    )
    optimiser = torch.optim.Adam([parameter for part in parts for parameter in part.parameters()], lr=5e-3)
    losses = []
    for _ in range(40):
        loss = sum(terms(batch(), draw()).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_level_of_a_signal_does_not_matter():
    model = system().eval()
    waveform = batch(samples=8000).simulated_mixtures
    torch.testing.assert_close(model.enhance(0.1 * waveform), 0.1 * model.enhance(waveform), rtol=1e-3, atol=1e-6)


def test_silence_stays_silent():
    model = system()
    silent = UnpairedTensors(*[torch.zeros(2, 3000)] * 6, torch.zeros(2, 2))
    assert model.eval().enhance(silent.mixtures).abs().max() < 1e-3
    for terms in (model.pretraining_terms, model.terms):
        loss = sum(terms(silent, draw()).values())
        loss.backward()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
