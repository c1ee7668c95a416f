"""Adapters change nothing at first, then nothing but their own values, and are gone when they are merged."""

import copy

import pytest
import torch

from sottovoce.models.adapters import LowRank, Shift, attach, merge
from sottovoce.models.blocks import Past

from ..systems import build, small_settings, speech


def adapted(rank=4):
    system = build(small_settings())
    return system, attach(system.adapted_parts(), rank, torch.Generator().manual_seed(1))


def enhanced(system):
    # With gradients, as in training.
    return system(system.stft.analyse(torch.from_numpy(speech(0.2))[None]), Past())


def disturb(adapters):
    with torch.no_grad():
        for parameter in (parameter for adapter in adapters for parameter in adapter.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape))


@pytest.mark.parametrize("rank", [0, 1, 4])
def test_a_system_begins_as_it_was(rank):
    torch.testing.assert_close(enhanced(adapted(rank)[0]), enhanced(build(small_settings())))


def test_merged_adapters_give_the_same_and_leave_a_plain_system():
    system, adapters = adapted()
    disturb(adapters)
    before = enhanced(system)
    merge(system)
    copied = copy.deepcopy(system)  # as exporting does; no layer holds on to what it computed with
    torch.testing.assert_close(enhanced(system), before)
    torch.testing.assert_close(enhanced(copied), before)
    plain = build(small_settings())
    assert (before - enhanced(plain)).abs().max() > 1e-4
    plain.load_state_dict(system.state_dict())
    torch.testing.assert_close(enhanced(plain), before)


def test_every_adapter_learns_and_the_rest_is_another_s():
    system, adapters = adapted()
    disturb(adapters)
    own = {parameter for adapter in adapters for parameter in adapter.parameters()}
    frozen = [parameter for parameter in system.parameters() if parameter not in own]
    for parameter in frozen:
        parameter.requires_grad_(False)
    spectra = system.stft.analyse(torch.from_numpy(speech(0.2))[None])
    system.translate(spectra).spectrum.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in own)
    names = dict(build(small_settings()).named_parameters())
    assert len(frozen) == len(names)
    in_the_parts = [name for name in names if name.startswith(("mixture_encoder.", "mask.")) and ".room." not in name]
    assert len(adapters) == len(in_the_parts)


def test_what_has_fewer_values_than_two_factors_gets_all_of_them():
    layer = torch.nn.Linear(64, 64)
    kinds = [type(adapter) for adapter in attach([layer], 4, torch.Generator())]
    assert kinds == [LowRank, Shift]
    assert [type(adapter) for adapter in attach([torch.nn.Linear(6, 6)], 4, torch.Generator())] == [Shift, Shift]
    assert [type(adapter) for adapter in attach([torch.nn.Linear(64, 64)], 0, torch.Generator())] == [Shift]


@pytest.mark.parametrize(
    ("layer", "shape"), [(torch.nn.Conv1d(20, 30, 3), (30, 60)), (torch.nn.Conv2d(20, 30, (3, 2)), (30, 120))]
)
def test_kernels_are_one_matrix(layer, shape):
    adapter, _ = attach([layer], 2, torch.Generator())
    assert (adapter.left.shape, adapter.right.shape) == ((shape[0], 2), (2, shape[1]))
    before = layer.weight.detach().clone()
    disturb([adapter])
    added = (layer.weight - before).reshape(shape)
    assert torch.linalg.matrix_rank(added.detach(), atol=1e-4) == 2
