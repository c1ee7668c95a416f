"""Losses in the shared latent space."""

import torch
from torch import Tensor


def prior(latent: Tensor) -> Tensor:
    """Mean h²: keeps the latent in the range of its noise.

    Args:
        latent: `(B, D, N)`.

    Returns:
        Scalar, at least 0.

    Source:
        Wang, Venkataramani and Smaragdis (2020), code, weight 1e-3.
    """
    return latent.square().mean()


def latent_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean (ĥ - h)².

    Between a mixture and its own translation (h_ms against h_m) it asks h_m to be a fixed point of E_S and D_S, that
    is, to lie where clean speech lies; between a pseudo-mixture and its speech it draws E_M to E_S.

    Args:
        estimate: ĥ `(B, D, N)`.
        target: h `(B, D, N)`.

    Returns:
        Scalar, at least 0.
    """
    return (estimate - target).square().mean()


def sliced_wasserstein(one: Tensor, other: Tensor, generator: torch.Generator, projections: int = 32) -> Tensor:
    """Distance of two clouds of latents that are not paired: mean over random directions of that of their quantiles.

    Args:
        one: `(B, D, N)`.
        other: `(B', D, N')`.
        generator: Source of the directions.
        projections: Number of directions.

    Returns:
        Scalar, at least 0.

    Source:
        Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures" (2015).
    """
    directions = torch.randn(projections, one.shape[1], generator=generator).to(one)
    directions = directions / directions.norm(dim=1, keepdim=True)

    def quantiles(latent: Tensor, count: int) -> Tensor:
        along = (directions @ latent).transpose(0, 1).flatten(1).sort(dim=1).values
        picked = torch.linspace(0, along.shape[1] - 1, count, device=along.device).round().long()
        return torch.index_select(along, 1, picked)

    count = min(one.shape[0] * one.shape[2], other.shape[0] * other.shape[2])
    return (quantiles(one, count) - quantiles(other, count)).square().mean()
