import numpy as np
import pytest
import torch
from torch import nn

from sottovoce.models.joint import JointAutoencoder
from sottovoce.training.health import check

from .conftest import tiny


class Constant(nn.Module):
    """A mask of one value at all frequencies and times."""

    def __init__(self, gain, bins):
        super().__init__()
        self.gain, self.bins = gain, bins

    def forward(self, features, guide, past):
        mask = features.new_zeros(len(features), 2, self.bins, features.shape[-1])
        mask[:, 0] = self.gain
        return mask


@pytest.fixture
def model():
    settings = tiny()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return JointAutoencoder(settings.frontend, settings.model).eval()


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    noise = 0.05 * rng.standard_normal((3, 8000))
    time = np.arange(8000) / 16000
    speech = 0.1 * np.sin(2 * np.pi * np.array([[150], [220], [330]]) * time)
    return tuple(torch.from_numpy(part.astype(np.float32)) for part in (speech, speech + noise, noise))


def test_a_system_that_lets_all_through(model, clips):
    model.mask = Constant(1.0, model.bins)
    health = check(model, *clips)
    assert health.noise_attenuation_db == pytest.approx(0, abs=0.01)
    assert health.speech_loss_db == pytest.approx(0, abs=0.01)


def test_a_system_that_silences(model, clips):
    model.mask = Constant(0.01, model.bins)
    health = check(model, *clips)
    assert health.noise_attenuation_db == pytest.approx(40, abs=0.1)
    assert health.speech_loss_db == pytest.approx(40, abs=0.1)


def test_a_system_that_hides_nothing(model, clips):
    """A mixture decoder that does not listen is as wrong with the fine print as without."""
    with torch.no_grad():
        for parameter in model.mixture_decoder.parameters():
            parameter.zero_()
    assert check(model, *clips).cycle_error_ratio == pytest.approx(1, abs=1e-4)


def test_dead_latents_are_counted(model, clips):
    alive = check(model, *clips)
    assert alive.latent_dead_share < 1
    assert alive.latent_deviation > 0
    with torch.no_grad():
        for part in (model.mixture_encoder, model.shared):
            for parameter in part.parameters():
                parameter.zero_()
    dead = check(model, *clips)
    assert dead.latent_dead_share == 1
    assert dead.latent_deviation == pytest.approx(0, abs=1e-6)


def test_noise_that_is_rebuilt_like_speech(model, clips):
    speech, mixtures, _ = clips
    assert check(model, speech, mixtures, speech).prior_ratio == pytest.approx(1)


def test_the_ceiling_is_that_of_the_speech_autoencoder(model, clips, monkeypatch):
    """With the clean spectrum in place of the decoded one nothing is lost."""
    monkeypatch.setattr(model, "spectrum_of", lambda decoded, reference: reference)
    assert check(model, *clips).ceiling_si_sdr_db > 60


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0])
def test_values_are_finite(model, clips, scale):
    values = check(model, *(scale * part for part in clips)).values()
    assert len(values) == 7
    assert np.isfinite(list(values.values())).all()


def test_nothing_is_changed(model, clips):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, other = check(model, *clips), check(model, *clips)
    assert one == other
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
