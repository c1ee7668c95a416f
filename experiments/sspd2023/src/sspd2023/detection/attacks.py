"""Perturbations of a given ratio: those that mislead a network, and noise to compare with.

Waveforms are tensors `(B, T)`. A perturbation at R dB has a root mean square that is R dB below that of its clip.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_CONFIDENT = 2.0
"""By how much the logit of a wrong class may be ahead before an attack stops to push: it then minimises the score."""

_STEP_SHARE = 0.2
_SCORE_WEIGHT = 10.0

Network = Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]


def white_noise(waveforms: Tensor, snr_db: float, seed: int) -> Tensor:
    """Add white noise.

    Args:
        waveforms: Clips.
        snr_db: Ratio in dB.
        seed: Of the noise.

    Returns:
        Noisy clips.
    """
    noise = torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(seed))
    return waveforms + _scaled(noise, waveforms, snr_db)


def fgsm(network: Network, waveforms: Tensor, labels: Tensor, snr_db: float) -> Tensor:
    """Fast gradient sign method: one step in the sign of the gradient of the loss.

    Args:
        network: From clips to logits `(B, classes)`.
        waveforms: Clips.
        labels: Their classes `(B,)`.
        snr_db: Ratio in dB.

    Returns:
        Attacked clips.

    Source:
        Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (ICLR 2015).
    """
    attacked = waveforms.clone().requires_grad_()
    loss = nn.functional.cross_entropy(network(attacked), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, attacked)
    return waveforms + _scaled(gradient.sign(), waveforms, snr_db)


def pgd(
    network: Network,
    waveforms: Tensor,
    labels: Tensor,
    snr_db: float,
    *,
    steps: int,
    seed: int,
    score: Score | None = None,
) -> Tensor:
    """Projected gradient descent on the margin of the right class, within the ball of a ratio.

    With a score of a detector the attack is adaptive: as soon as a wrong class is ahead, it makes the score small.

    Args:
        network: From clips to logits `(B, classes)`.
        waveforms: Clips.
        labels: Their classes `(B,)`.
        snr_db: Ratio in dB, at least.
        steps: Gradient steps.
        seed: Of the beginning.
        score: From clips to scores `(B,)` of which a detector has a threshold.

    Returns:
        Attacked clips.

    Source:
        Madry et al., "Towards deep learning models resistant to adversarial attacks" (ICLR 2018); the bounded margin
        and the score beside it: Carlini and Wagner, "Adversarial examples are not easily detected" (AISec 2017).
    """
    start = torch.randn(waveforms.shape, generator=torch.Generator().manual_seed(seed))
    perturbation = _scaled(start, waveforms, snr_db + 6.0)
    for _ in range(steps):
        perturbation = perturbation.detach().requires_grad_()
        attacked = waveforms + perturbation
        goal = -margin(network(attacked), labels).clamp(min=-_CONFIDENT)
        if score is not None:
            goal = goal - _SCORE_WEIGHT * score(attacked)
        (gradient,) = torch.autograd.grad(goal.sum(), perturbation)
        step = _scaled(gradient, waveforms, snr_db) * _STEP_SHARE
        perturbation = _within(perturbation.detach() + step, waveforms, snr_db)
    return waveforms + perturbation


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the right class is ahead of the best wrong one.

    Args:
        logits: `(B, classes)`.
        labels: `(B,)`.

    Returns:
        `(B,)`, negative where the network is wrong.
    """
    right = logits.gather(1, labels[:, None])[:, 0]
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return right - wrong


def _size(waveforms: Tensor) -> Tensor:
    return waveforms.square().mean(dim=1, keepdim=True).sqrt()


def _scaled(perturbation: Tensor, waveforms: Tensor, snr_db: float) -> Tensor:
    wanted = _size(waveforms) * 10 ** (-snr_db / 20)
    return perturbation * (wanted / _size(perturbation).clamp(min=1e-12))


def _within(perturbation: Tensor, waveforms: Tensor, snr_db: float) -> Tensor:
    most = _size(waveforms) * 10 ** (-snr_db / 20)
    return perturbation * (most / _size(perturbation).clamp(min=1e-12)).clamp(max=1.0)
