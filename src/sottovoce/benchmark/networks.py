"""Trained networks of torch as systems, before any export."""

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce.baselines.network import Baseline
from sottovoce.baselines.system import require_sample_rate
from sottovoce.models.joint import JointAutoencoder


class Network:
    """A joint system or a baseline.

    Args:
        network: In evaluation mode, for 16 kHz.
    """

    def __init__(self, network: JointAutoencoder | Baseline) -> None:
        self._network = network

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal `(samples,)` at 16 kHz."""
        require_sample_rate(sample_rate)
        enhanced: NDArray[np.float32] = self._network.enhance(torch.from_numpy(waveform[np.newaxis]))[0].numpy()
        return enhanced


class SpeechCeiling:
    """What is left of the clean speech itself after the speech autoencoder: the joint system can hardly be better.

    Args:
        network: In evaluation mode.
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
    """

    def __init__(self, network: JointAutoencoder, reference: NDArray[np.float32]) -> None:
        self._network = network
        self._reference = reference

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Give the clean speech through E_S, G, D_A and D_P; the mixture is not heard."""
        ceiling: NDArray[np.float32] = self._network.reconstruct(torch.from_numpy(self._reference[np.newaxis]))[
            0
        ].numpy()
        return ceiling
