"""Overlapping stretches of a signal, without a copy."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def sliding_windows(signal: NDArray[Scalar], length: int, step: int = 1) -> NDArray[Scalar]:
    """View a signal as overlapping windows.

    The checks of numpy's own `sliding_window_view` take longer than the transform of a frame.

    Args:
        signal: `(..., T)`.
        length: Of a window in samples, at least 1.
        step: From the beginning of a window to that of the next, at least 1.

    Returns:
        View `(..., N, length)` of the N windows that are complete, not to be written to.
    """
    count = max(0, (signal.shape[-1] - length) // step + 1)
    if count == 1:
        return signal[..., np.newaxis, :length]
    *outer, stride = signal.strides
    shape, strides = (*signal.shape[:-1], count, length), (*outer, step * stride, stride)
    return np.lib.stride_tricks.as_strided(signal, shape, strides, writeable=False)
