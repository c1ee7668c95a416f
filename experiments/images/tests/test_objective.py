import pytest
import torch

from images.networks import ImageSystem
from images.objective import Batch, Weights, joint_terms
from images.training import SYSTEMS
from sottovoce.objectives.joint import total


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return Batch(*(torch.rand(count, 1, 64, 64) for count in (2, 1, 1, 1, 2, 2)))


def learned(network, batch, weights):
    """Names of the parts that get gradients."""
    terms = joint_terms(network, batch, weights, torch.Generator().manual_seed(0))
    loss = total(terms, weights.model_dump())
    assert loss.isfinite()
    loss.backward()
    parts = {name: list(part.parameters()) for name, part in network.named_children()}
    return {name for name, values in parts.items() if any(v.grad is not None and v.grad.any() for v in values)}


def test_all_parts_learn_together(batch):
    network = SYSTEMS["joint"].network(1)
    assert learned(network, batch, SYSTEMS["joint"].weights) == {name for name, _ in network.named_children()}


def test_the_published_system_learns_without_simulated_pairs(batch):
    system = SYSTEMS["published"]
    no_pairs = batch._replace(simulated=batch.simulated * torch.nan, simulated_clean=batch.simulated * torch.nan)
    assert learned(system.network(1), no_pairs, system.weights) >= {"clean_encoder", "shared", "mixture_encoder"}


@pytest.mark.parametrize("name", ["simulated", "paired"])
def test_pairs_alone_need_no_noisy_slices(batch, name):
    system = SYSTEMS[name]
    alone = batch._replace(noisy=batch.noisy * torch.nan, air=batch.air * torch.nan)
    assert "mixture_decoder" not in learned(system.network(1), alone, system.weights)


def test_the_shared_layer_is_trained_by_both(batch):
    for kept in ({"mixture": 1.0, "cycle": 1.0}, {"clean": 1.0}):
        weights = Weights(**(dict.fromkeys(Weights.model_fields, 0.0) | kept))
        assert "shared" in learned(ImageSystem(), batch, weights)


def test_silence_costs_nothing_where_air_is_made_nothing(batch):
    network = ImageSystem()
    made = network.translate(batch.air).image.detach()
    terms = joint_terms(network, batch._replace(nothing=made), Weights(), torch.Generator().manual_seed(0))
    assert terms["silence"] < joint_terms(network, batch, Weights(), torch.Generator().manual_seed(0))["silence"]
