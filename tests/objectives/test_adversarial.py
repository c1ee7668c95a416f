"""The adversary: who learns from which part of its term, and that it learns to tell the two apart."""

import pytest
import torch

from sottovoce.config import JointWeights
from sottovoce.objectives.adversarial import Discriminator, adversarial_loss, discriminator_loss
from sottovoce.objectives.joint import Objective

from ..systems import build, small_settings
from .test_joint import batch, generator


@pytest.fixture
def discriminator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Discriminator()


def stripes(count, seed):
    """Amplitudes with lines along time, as harmonics are."""
    rng = torch.Generator().manual_seed(seed)
    lines = (torch.arange(64) % 8 < 2).float().view(1, -1, 1)
    return lines * (0.5 + torch.rand(count, 1, 40, generator=rng))


def hiss(count, seed):
    return 0.5 * torch.rand(count, 64, 40, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 33, 5), (2, 257, 188)])
def test_any_size_is_scored(discriminator, shape):
    scores = discriminator(torch.rand(shape))
    assert scores.shape[0] == shape[0]
    assert scores.numel() >= shape[0]


def test_each_learns_from_its_own_part(discriminator):
    estimate = hiss(2, 0).requires_grad_()
    discriminator_loss(discriminator, stripes(2, 1), estimate).backward()
    assert estimate.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    discriminator.zero_grad(set_to_none=True)
    adversarial_loss(discriminator, estimate).backward()
    assert estimate.grad is not None
    assert estimate.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())


def test_it_learns_to_tell_speech_from_hiss(discriminator):
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    for step in range(40):
        optimiser.zero_grad()
        discriminator_loss(discriminator, stripes(4, step), hiss(4, step)).backward()
        optimiser.step()
    with torch.no_grad():
        discriminator.eval()
        assert discriminator(stripes(8, 100)).mean() > discriminator(hiss(8, 100)).mean() + 0.3


def test_the_term_trains_the_system_and_the_adversary(discriminator):
    settings = small_settings()
    system = build(settings)
    weights = JointWeights(adversarial=1.0)
    terms = Objective(settings.frontend).joint(system, batch(), weights, generator(), discriminator=discriminator)
    terms["adversarial"].backward()
    assert any(parameter.grad is not None for parameter in discriminator.parameters())
    assert any(parameter.grad is not None for parameter in system.mask.parameters())


def test_without_an_adversary_there_is_no_term():
    settings = small_settings()
    terms = Objective(settings.frontend).joint(build(settings), batch(), JointWeights(adversarial=1.0), generator())
    assert "adversarial" not in terms
