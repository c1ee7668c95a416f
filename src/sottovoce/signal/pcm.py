"""Samples as the bytes that other programs exchange: channels interleaved, little-endian."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PcmName = Literal["s16le", "f32le"]
"""Names of the formats, those of FFmpeg: 16-bit whole numbers, and 32-bit floating-point numbers."""

_TYPES = {"s16le": "<i2", "f32le": "<f4"}


class PcmFormat:
    """How samples of some channels are written as bytes.

    Args:
        name: Name of the format.
        channels: Number of channels.

    Attributes:
        frame_bytes: Size of one sample of each channel.
    """

    def __init__(self, name: PcmName, channels: int) -> None:
        self._type: np.dtype[Any] = np.dtype(_TYPES[name])
        self._full_scale = np.float32(2**15 if self._type.kind == "i" else 1)
        self._channels = channels
        self.frame_bytes = channels * self._type.itemsize

    def samples(self, data: bytes | memoryview) -> int:
        """Count the samples of each channel.

        Args:
            data: Any number of samples of each channel.

        Raises:
            ValueError: The bytes end within a sample, or have not the same number of samples in every channel.
        """
        count, rest = divmod(len(data), self.frame_bytes)
        if rest:
            raise ValueError(
                f"found {len(data)} bytes, expected a multiple of {self.frame_bytes}: one sample of each channel"
            )
        return count

    def decode(self, data: bytes | memoryview) -> NDArray[np.float32]:
        """Read samples.

        Args:
            data: Any number of samples of each channel.

        Returns:
            Samples `(channels, n)`, full scale ±1.

        Raises:
            ValueError: The bytes end within a sample, or have not the same number of samples in every channel.
        """
        self.samples(data)
        samples = np.frombuffer(data, self._type).reshape(-1, self._channels).T
        return np.ascontiguousarray(samples, np.float32) / self._full_scale

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        """Write samples; whole numbers are rounded, and limited to full scale.

        Args:
            samples: `(channels, n)`, full scale ±1.

        Returns:
            The bytes.
        """
        if self._type.kind == "i":
            samples = np.clip(np.rint(samples * self._full_scale), -self._full_scale, self._full_scale - 1)
        return samples.T.astype(self._type).tobytes()
