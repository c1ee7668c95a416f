import dataclasses

import numpy as np
import pytest
import torch

from images.batches import PATCH
from images.experiment import GAP
from images.noise import NOISES
from images.slices import phantom, split
from images.training import PAIRED, SYSTEMS, material, patches


@pytest.fixture(scope="module", params=NOISES, ids=lambda noise: noise.name)
def learned_from(request):
    volume = phantom()
    return material(volume, split(volume, GAP), request.param), request.param


def test_a_batch_depends_on_seed_and_step_alone(learned_from):
    found, noise = learned_from
    first, same = (patches(SYSTEMS["joint"], found, noise, 3).batch(5) for _ in range(2))
    other = patches(SYSTEMS["joint"], found, noise, 3).batch(6)
    for part, equal, different in zip(first, same, other, strict=True):
        assert torch.equal(part, equal)
        assert not torch.equal(part, different) or not part.any()
        assert part.shape[1:] == (1, PATCH, PATCH)
        assert part.dtype == torch.float32


@pytest.mark.parametrize("name", SYSTEMS)
def test_clean_versions_of_noisy_slices_reach_the_bound_alone(learned_from, name):
    found, noise = learned_from
    other = dataclasses.replace(found, truth=np.zeros_like(found.truth), levels=found.levels[::-1])
    batches = zip(*(patches(SYSTEMS[name], each, noise, 1).batch(0) for each in (found, other)), strict=True)
    assert all(torch.equal(*parts) for parts in batches) == (name != PAIRED)


def test_noisy_slices_are_of_other_slabs_than_clean_ones(learned_from):
    found, noise = learned_from
    volume = phantom()
    parts = split(volume, GAP)
    assert not set(parts.clean) & set(parts.noisy)
    np.testing.assert_array_equal(found.clean, noise.clean(volume)[list(parts.clean)])
    changed = volume.copy()
    changed[list(parts.noisy)] = 0.5
    np.testing.assert_array_equal(material(changed, parts, noise).clean, found.clean)


def test_pairs_of_the_bound_are_noisy_slices_with_fresh_noise(learned_from):
    found, noise = learned_from
    drawn = patches(SYSTEMS[PAIRED], found, noise, 1)
    batch = drawn.batch(0)
    assert not torch.equal(batch.simulated, batch.simulated_clean)
    assert (batch.simulated - batch.simulated_clean).std() > 0.02


def test_simulated_pairs_have_as_much_noise_as_real_ones(learned_from):
    found, noise = learned_from
    spread = {}
    for name in ("joint", PAIRED):
        batches = [patches(SYSTEMS[name], found, noise, 1).batch(step) for step in range(12)]
        spread[name] = float(torch.cat([each.simulated - each.simulated_clean for each in batches]).std())
    assert spread["joint"] == pytest.approx(spread[PAIRED], rel=0.2)
