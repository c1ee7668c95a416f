"""Losses on phase, and on the relation of amplitude and phase."""

from torch import Tensor


def phase_error(estimate: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of A^p (1 - cos(φ̂ - φ)): wraps by itself, and counts where there is energy.

    The predecessor compares phases as numbers, for which 359° and 1° lie far apart.

    Args:
        estimate: Cosine and sine of φ̂, `(B, 2, F, N)`.
        target: Cosine and sine of φ, `(B, 2, F, N)`.
        weight: A^p, `(B, F, N)`.

    Returns:
        Scalar, at least 0.
    """
    return (weight * (1 - (estimate * target).sum(dim=1))).mean()


def consistency(spectrum: Tensor, recomputed: Tensor) -> Tensor:
    """Mean |Ŝ - STFT(iSTFT(Ŝ))|²: amplitude and phase that no signal has together are drawn to those that one has.

    Args:
        spectrum: Ŝ of the longest window, `(B, 2, F, N)`.
        recomputed: STFT(iSTFT(Ŝ)), `(B, 2, F, N)`.

    Returns:
        Scalar, at least 0.

    Source:
        Le Roux, Ono and Sagayama (2008); amplitude-phase consistency of Li, Sun, Wang and Naqvi (SSPD 2023).
    """
    return (spectrum - recomputed).square().sum(dim=1).mean()
