"""What the trained baselines have in common: two stages of training, and whole signals in and out."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sottovoce.objectives.joint import LossTerms, UnpairedTensors


class Baseline(nn.Module, ABC):
    """A system to compare with, trained on the same recordings with the same budget as the joint system.

    Batches are those of the joint system. `mixtures` are noisy recordings without any label. `simulated_mixtures` and
    `simulated_targets` are clean speech with harvested noise; for a supervised baseline (`pairs`) they are mixtures and
    their own clean versions.
    """

    def pretrained_parts(self) -> list[nn.Module]:
        """Networks that the pre-training trains; none if there is no pre-training."""
        return []

    def pretraining_terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Loss terms of the pre-training on unlabelled recordings, whose sum is minimised.

        Args:
            batch: Clips; `mixtures` alone may be looked at, and `speech` is empty.
            generator: Source of all random numbers.

        Returns:
            Named scalars.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pre-training")

    @abstractmethod
    def trained_parts(self) -> list[nn.Module]:
        """Networks that the training trains; all others are frozen in it."""

    @abstractmethod
    def terms(self, batch: UnpairedTensors, generator: torch.Generator) -> LossTerms:
        """Loss terms of the training, whose sum is minimised.

        Args:
            batch: Clips.
            generator: Source of all random numbers.

        Returns:
            Named scalars.
        """

    def run_time_parts(self) -> list[nn.Module]:
        """Networks that `enhance` needs."""
        return [self]

    @abstractmethod
    def enhance(self, waveform: Tensor) -> Tensor:
        """Enhance whole signals at 16 kHz, without gradients.

        Args:
            waveform: Samples `(B, T)`, any length.

        Returns:
            Samples `(B, T)`, aligned.
        """
