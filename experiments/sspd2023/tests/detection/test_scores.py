"""Scores of the latent space: their range, their invariance, their gradient."""

import pytest
import torch
from tests.systems import build, small_settings

from sspd2023.detection.scores import LATENT_SCORES, LatentScores, label_change, unexplained


@pytest.fixture(scope="module")
def system():
    """A system of random values."""
    return build(small_settings()).requires_grad_(False)


@pytest.fixture
def clips():
    return 0.1 * torch.randn(3, 1600, generator=torch.Generator().manual_seed(0))


def latent_scores(system, clips):
    scores = LatentScores(system, clips)
    return {name: scores[name] for name in LATENT_SCORES}


def test_every_score_is_one_number_per_clip(system, clips):
    scores = latent_scores(system, clips)
    for values in scores.values():
        assert values.shape == (3,)
        assert torch.isfinite(values).all()
        assert (values >= 0).all()


def test_scores_do_not_depend_on_the_level(system, clips):
    soft, loud = latent_scores(system, 0.1 * clips), latent_scores(system, clips)
    for name, values in loud.items():
        torch.testing.assert_close(soft[name], values, rtol=1e-2, atol=1e-4)


def test_an_attack_has_a_gradient(system, clips):
    clips.requires_grad_()
    sum(values.sum() for values in latent_scores(system, clips).values()).backward()
    assert torch.isfinite(clips.grad).all()
    assert (clips.grad != 0).any()


def test_an_equal_amplitude_explains_everything():
    amplitude = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unexplained(amplitude, amplitude), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(unexplained(torch.zeros_like(amplitude), amplitude), torch.ones(2))


def test_label_changes_only_if_enhancement_changes_it():
    def network(waveforms):
        return 10 * waveforms[:, :2]

    clips = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert label_change(network, lambda x: x, clips).tolist() == [0.0, 0.0]
    torch.testing.assert_close(label_change(network, lambda x: x.flip(1), clips), torch.ones(2))
