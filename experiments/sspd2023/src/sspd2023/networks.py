"""Trained networks of torch as systems, before any export."""

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce.models.joint import JointSystem
from sspd2023.baselines.network import Baseline
from sspd2023.baselines.system import require_sample_rate


class Network:
    """A joint system or a baseline.

    Args:
        network: In evaluation mode, for 16 kHz.
    """

    def __init__(self, network: JointSystem | Baseline) -> None:
        self._network = network

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal `(samples,)` at 16 kHz."""
        require_sample_rate(sample_rate)
        enhanced: NDArray[np.float32] = self._network.enhance(torch.from_numpy(waveform[np.newaxis]))[0].numpy()
        return enhanced


class SpeechCeiling:
    """The clean speech after the speech autoencoder, with the mixture's phase: what the system is at best.

    Args:
        network: In evaluation mode.
        reference: Clean speech `(samples,)` at 16 kHz, full scale ±1.
    """

    def __init__(self, network: JointSystem, reference: NDArray[np.float32]) -> None:
        self._network = network
        self._reference = reference

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Give the clean speech through E_S, G, D_A and D_P; of the mixture only the phase is used."""
        require_sample_rate(sample_rate)
        speech, mixture = (torch.from_numpy(samples[np.newaxis]) for samples in (self._reference, waveform))
        ceiling: NDArray[np.float32] = self._network.reconstruct(speech, mixture)[0].numpy()
        return ceiling
