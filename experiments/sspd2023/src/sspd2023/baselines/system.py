"""The one protocol that joins product, baselines, oracles and peers."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import ConfigError

SAMPLE_RATE = 16000
"""Rate at which systems are compared, in Hz."""


class System(Protocol):
    """Something that enhances speech."""

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Enhance a whole signal.

        Args:
            waveform: Samples `(samples,)`, full scale ±1.
            sample_rate: Rate in Hz; systems are compared at 16 kHz.

        Returns:
            Samples `(samples,)`, aligned.
        """
        ...


class Unprocessed:
    """The recording as it is: the row beside which all others stand."""

    def enhance(self, waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Give back the input."""
        return waveform


def require_sample_rate(sample_rate: int) -> None:
    """Refuse a rate at which systems are not compared.

    Args:
        sample_rate: Rate in Hz.

    Raises:
        ConfigError: It is not 16000 Hz.
    """
    if sample_rate != SAMPLE_RATE:
        raise ConfigError(f"found a rate of {sample_rate} Hz, expected {SAMPLE_RATE} Hz: resample the recording first")
