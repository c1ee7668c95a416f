"""Losses in the shared latent space."""

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
    is, to lie where clean speech lies; between a simulated mixture and its speech it draws E_M to E_S.

    Args:
        estimate: ĥ `(B, D, N)`.
        target: h `(B, D, N)`.

    Returns:
        Scalar, at least 0.
    """
    return (estimate - target).square().mean()
