"""Networks that learn ratio masks from pairs."""

import numpy as np
import pytest
import torch
from tests.systems import speech

from sottovoce.objectives.joint import UnpairedTensors
from sspd2023.baselines import build_network

from ..systems import small_experiment


def settings(target):
    return small_experiment(
        baseline={"kind": "masking", "target": target}, pairs="as recorded", training={"data": {"simulated_clips": 2}}
    )


def network(target):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_network(settings(target))


def batch():
    clean = torch.from_numpy(np.stack([speech(0.5, start, "clean") for start in (2.0, 3.0)]))
    noise = 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros(0, clean.shape[1])
    return UnpairedTensors(nothing, nothing, nothing, clean + noise, clean, clean, torch.zeros(len(clean), 2))


@pytest.mark.parametrize("target", ["irm", "cirm"])
def test_a_network_learns_its_mask(target):
    model = network(target).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model.terms(batch(), torch.Generator())["mask"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("target", ["irm", "cirm"])
@pytest.mark.parametrize("samples", [1, 15, 16, 999, 4000])
def test_any_length_is_kept(target, samples):
    model = network(target).eval()
    enhanced = model.enhance(torch.randn(2, samples, generator=torch.Generator().manual_seed(0)))
    assert enhanced.shape == (2, samples)
    assert torch.isfinite(enhanced).all()


def test_a_ratio_mask_never_adds_energy_and_keeps_silence():
    model = network("irm").eval()
    noisy = batch().simulated_mixtures
    assert model.enhance(noisy).square().sum() < noisy.square().sum()
    assert not model.enhance(torch.zeros(1, 4000)).any()


def test_speech_of_other_clips_is_not_looked_at():
    model = network("irm").eval()
    one = batch()
    other = one._replace(speech=torch.randn(3, 8000), mixtures=torch.randn(3, 8000))
    assert torch.equal(model.terms(one, torch.Generator())["mask"], model.terms(other, torch.Generator())["mask"])
