"""What counts as sound: one range of rates and channels for files, pipes, streams and arrays; how much goes at once."""

from numbers import Real

import numpy as np
from numpy.typing import NDArray

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 384_000
MAX_CHANNELS = 64
"""As many as ambisonics of the seventh order has; more are mostly samples in the place of channels."""

MAX_SAMPLE = 1e9
"""A sample of this size or beyond (180 dB above full scale) is no sound, and its square would not fit the numbers of a
network: it counts as 0, as does one that is no number."""

# Longer blocks run no faster: their arrays leave the processor's caches, and every recording at work holds some.
_BLOCK_SECONDS = 1.0
# Samples of all channels in a block. It bounds the memory, whatever the rate and the number of channels.
_BLOCK_VALUES = 2**17
# Inside, a block of a low rate is as long as at the model's rate, which is at most this.
_INNER_RATE_HZ = 48_000


def usable(samples: NDArray[np.floating]) -> NDArray[np.floating]:
    """Samples of any shape, full scale ±1, with 0 in the place of what is no sound: see `MAX_SAMPLE`."""
    # Every comparison with NaN is false.
    return np.where(np.abs(samples) < MAX_SAMPLE, samples, 0)


def implausible(sample_rate: float, channels: int) -> str | None:
    """Say what is wrong with the rate or the number of channels of a recording.

    Headers that are damaged or forged claim any number, and memory and time grow with it.

    Args:
        sample_rate: Rate in Hz.
        channels: Number of channels.

    Returns:
        What was found and what is expected, to stand after "found"; None if both are in range.
    """
    is_number = isinstance(sample_rate, Real)  # Python's callers may give anything
    if not is_number or sample_rate % 1 != 0 or not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        found = f"{sample_rate} Hz" if is_number else repr(sample_rate)
        return f"rate {found}, expected a whole number from {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
    if not 1 <= channels <= MAX_CHANNELS:
        return f"{channels} channels, expected 1 to {MAX_CHANNELS}"
    return None


def block_frames(sample_rate: int, channels: int) -> int:
    """Say how much of a signal to work on at once, so that the memory is bounded.

    Args:
        sample_rate: Rate in Hz, in range.
        channels: Number of channels, in range.

    Returns:
        Samples per channel, 1 at least: a second, or less if there are many channels or the rate is high.
    """
    seconds = min(_BLOCK_SECONDS, _BLOCK_VALUES / (channels * max(sample_rate, _INNER_RATE_HZ)))
    return max(1, int(seconds * sample_rate))
