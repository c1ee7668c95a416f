"""Samples that wait between blocks."""

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]

_FIRST_CAPACITY = 1024


class SampleQueue:
    """Samples, first in, first out, in memory that is used again: blocks of one sample cost as little as they should.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        self._memory = np.zeros((channels, _FIRST_CAPACITY), np.float32)
        self._start = self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    def append(self, block: NDArray[np.floating]) -> None:
        """Put samples behind the others.

        Args:
            block: Samples `(channels, n)`; n may be 0.
        """
        count = block.shape[1]
        if self._end + count > self._memory.shape[1]:
            self._make_room(count)
        self._memory[:, self._end : self._end + count] = block
        self._end += count

    def waiting(self) -> Float32Array:
        """All samples that wait.

        Returns:
            View `(channels, n)`, good until the next `append`; what is written to it is kept.
        """
        return self._memory[:, self._start : self._end]

    def take(self, count: int) -> Float32Array:
        """Take samples from the front.

        Args:
            count: How many, at most `len(self)`.

        Returns:
            View `(channels, count)`, good until the next `append`.
        """
        taken = self._memory[:, self._start : self._start + count]
        self._start += count
        return taken

    def _make_room(self, count: int) -> None:
        waiting = self.waiting()
        needed = len(self) + count
        # Half of the memory stays free, so that samples are moved once for every one that was appended, or less.
        if 2 * needed > self._memory.shape[1]:
            self._memory = np.zeros((self._memory.shape[0], 2 * needed), np.float32)
        self._memory[:, : len(self)] = waiting
        self._start, self._end = 0, len(self)
