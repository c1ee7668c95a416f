"""Low-rank adapters: small trained changes of frozen networks, which are added to their weights before they run."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sottovoce.models.bands import BandBlock

_KERNELS = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d


class LowRank(nn.Module):
    """Adds a matrix of low rank to a weight, none at first.

    Args:
        weight: The weight: one matrix, several of them `(count, rows, columns)`, or the kernels of a convolution.
        rank: Rank of what is added.
        generator: Source of the initial values.
        is_kernel: Whether it is kernels `(out, in, ...)`, which make one matrix with a row for each output.

    Source:
        Hu et al., "LoRA: Low-rank adaptation of large language models" (2022).
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator, *, is_kernel: bool) -> None:
        super().__init__()
        *count, rows, columns = weight.flatten(1).shape if is_kernel else weight.shape
        # As LoRA begins: one factor at random and one of zeros, so that the network starts as it is.
        self.left = nn.Parameter(weight.new_zeros(*count, rows, rank))
        self.right = nn.Parameter(torch.randn(*count, rank, columns, generator=generator) / math.sqrt(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """Change a weight."""
        return weight + (self.left @ self.right).reshape(weight.shape)


class Shift(nn.Module):
    """Adds values to a bias, a gain or a small matrix, none at first.

    Args:
        weight: What is changed.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """Change it."""
        return weight + self.shift


def attach(networks: Iterable[nn.Module], rank: int, generator: torch.Generator) -> tuple[nn.Module, ...]:
    """Put adapters on all weights of some networks, which go on as they are until the adapters are trained.

    Args:
        networks: The networks, whose own weights are to be frozen.
        rank: Rank of the adapters of matrices; 0 leaves these as they are. Biases, gains, and matrices that have fewer
            values than two factors would, get a `Shift`.
        generator: Source of the initial values.

    Returns:
        The adapters: what is to be trained.
    """
    adapters = []
    layers = [layer for network in networks for layer in network.modules()]
    # An adaptation is given the natural room alone, which the weights of the choice do not see.
    choices = {layer.room for layer in layers if isinstance(layer, BandBlock)}
    layers = [layer for layer in layers if layer not in choices]
    weights = [(at, *named) for at in layers for named in at.named_parameters(recurse=False)]
    for layer, name, weight in weights:
        adapter: nn.Module
        if "bias" in name or weight.dim() == 1:
            adapter = Shift(weight.detach())
        elif rank:
            adapter = LowRank(weight.detach(), rank, generator, is_kernel=isinstance(layer, _KERNELS))
            if sum(factor.numel() for factor in adapter.parameters()) >= weight.numel():
                adapter = Shift(weight.detach())
        else:
            continue
        # Unsafe skips a trial alone, which recurrent layers and lists of parameters do not pass.
        parametrize.register_parametrization(layer, name, adapter, unsafe=True)
        adapters.append(adapter)
    return tuple(adapters)


def merge(network: nn.Module) -> None:
    """Add adapters to the weights for good; the network is then one of those that can be saved and exported.

    Args:
        network: What has adapters; it is moved to the CPU.
    """
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer):
            for name, _ in list(layer.get_submodule("parametrizations").named_children()):
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
    # Recurrent layers keep a list of their weights, which moving them renews.
    network.cpu()
