"""How strange a clip is: scores of the latent space, of a label after enhancement, and one that knows no network.

Clips are tensors `(B, T)`; every score is `(B,)`, at least 0, higher for what is stranger, and differentiable.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from sottovoce.models.autoencoder import DecodedSpeech
from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointSystem, Translation

RECONSTRUCTION = "reconstruction"
FIXED_POINT = "fixed point"
GAP = "gap of the encoders"
CHANGE = "change of the latent"
UNEXPLAINED = "unexplained output"
FLATNESS = "spectral flatness"
LABEL = "change of the label"

LATENT_SCORES = {
    RECONSTRUCTION: "D_A(E_S(x)) against the amplitude of x",
    FIXED_POINT: "E_S(D(h)) against h = E_S(x), D the decoders D_A and D_P",
    GAP: "E_M(x) against E_S(x)",
    CHANGE: "E_S of the enhanced clip against E_S(x)",
    UNEXPLAINED: "D_A(E_M(x)) against the amplitude of the enhanced clip",
    FLATNESS: "geometric over arithmetic mean of the spectrum of x, which knows no network",
}
"""What is compared, by score."""

_ACTIVE_DB = -40.0
"""Frames further below the loudest are left out where a score is one of frames."""

_TINY = 1e-9


class LatentScores:
    """The scores of some clips, each computed when it is asked for.

    Args:
        system: In evaluation mode.
        clips: At its rate.
    """

    def __init__(self, system: JointSystem, clips: Tensor) -> None:
        self._system = system
        spectra = system.analyse(clips)
        self._scaled = spectra / system.level(spectra, Past())
        self._longest = self._scaled[:, :, : system.bins]
        self._power = self._longest.square().sum(dim=1)
        energy = self._power.sum(dim=1)
        loud = energy > energy.amax(dim=1, keepdim=True) * 10 ** (_ACTIVE_DB / 10)
        self._active = loud.to(energy.dtype)
        self._scores = {
            RECONSTRUCTION: self._reconstruction,
            FIXED_POINT: self._fixed_point,
            GAP: self._gap,
            CHANGE: self._change,
            UNEXPLAINED: self._unexplained,
            FLATNESS: self._flatness,
        }

    def __getitem__(self, name: str) -> Tensor:
        """One of `LATENT_SCORES`, `(B,)`."""
        return self._scores[name]()

    @functools.cached_property
    def _speech(self) -> Tensor:
        return self._system.encode_speech(self._scaled)

    @functools.cached_property
    def _decoded(self) -> DecodedSpeech:
        return self._system.decode_speech(self._speech)

    @functools.cached_property
    def _translation(self) -> Translation:
        return self._system.translate(self._scaled)

    def _reconstruction(self) -> Tensor:
        return _distance(self._decoded.amplitude, self._system.compressed(self._scaled), self._active)

    def _fixed_point(self) -> Tensor:
        again = self._system.encode_speech(self._system.spectrum_of(self._decoded, self._longest))
        return _distance(again, self._speech, self._active)

    def _gap(self) -> Tensor:
        return _distance(self._translation.latent, self._speech, self._active)

    def _change(self) -> Tensor:
        return _distance(self._system.encode_speech(self._translation.spectrum), self._speech, self._active)

    def _unexplained(self) -> Tensor:
        return unexplained(self._translation.amplitude, self._system.compressed(self._translation.spectrum))

    def _flatness(self) -> Tensor:
        flatness = torch.log(self._power + _TINY).mean(dim=1).exp() / (self._power.mean(dim=1) + _TINY)
        mean: Tensor = (flatness * self._active).sum(dim=1) / self._active.sum(dim=1)
        return mean


def unexplained(decoded: Tensor, enhanced: Tensor) -> Tensor:
    """Squared distance of the output from what the speech decoder makes of the mixture's latent.

    Args:
        decoded: Compressed amplitude of D_A `(B, F, N)`.
        enhanced: Compressed amplitude of the output, of the same shape.

    Returns:
        `(B,)`, relative to the energy of `enhanced`: loud frames count most.
    """
    error, size = (part.square().sum(dim=(1, 2)) for part in (decoded - enhanced, enhanced))
    return error / (size + _TINY)


def label_change(network: Callable[[Tensor], Tensor], enhance: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Total variation between what a network says of clips and of their enhanced versions.

    Args:
        network: From clips to logits `(B, classes)`.
        enhance: From clips to clips; differentiable, if the score is to be.
        clips: `(B, T)`.

    Returns:
        `(B,)`, 0 to 1.

    Source:
        Xu, Evans and Qi, "Feature squeezing: detecting adversarial examples in deep neural networks" (NDSS 2018).
    """
    before, after = (torch.softmax(network(each), dim=1) for each in (clips, enhance(clips)))
    return (before - after).abs().sum(dim=1) / 2


def _distance(estimate: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Squared distance relative to the target, over weighted frames `(B, N)`."""
    error, size = ((part.square().sum(dim=1) * weights).sum(dim=1) for part in (estimate - target, target))
    return error / (size + _TINY)
