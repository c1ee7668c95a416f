"""Two resamplers: soxr's for files, and a short filter whose delay is known for live use."""

import math
from functools import lru_cache

import numpy as np
import soxr
from numpy.typing import NDArray

from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.windows import sliding_windows

Float32Array = NDArray[np.float32]

# soxr works in pieces of up to a sixth of a second.
_LATENCY_PROBE_SECONDS = 2

# Half the filter's length, in samples of the lower rate: 1.9 ms at 16 kHz.
_HALF_LENGTH = 30
_STOPBAND_DB = 70.0
# The filter is 6 dB down here, as a share of half the lower rate. At 16 kHz it passes all up to 7.1 kHz and nothing
# from 8.3 kHz on; what is between is mirrored into the last 0.3 kHz below 8 kHz.
_CUTOFF = 0.96
# Filters that are kept at most. Rates that are in use need fewer. Others, such as primes, would need one for every
# sample of a second: they get straight lines between these, which come within -105 dB of the true filter.
_MAX_PHASES = 1024
# Outputs that are computed at once, and products of samples and filters for them: few, so that what they are computed
# from stays in the processor's caches.
_OUTPUTS = 256
_PRODUCTS = 2**19


class Resampler:
    """Changes the rate of a signal that comes in blocks; the output is aligned with the input to the sample.

    n samples become ceil(n * target_rate / source_rate), so there and back gives at least as many as there were: cut
    to the input's length, it is the input.

    Args:
        source_rate: Rate of the input in Hz.
        target_rate: Rate of the output in Hz.
        channels: Number of channels.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        self.source_rate = source_rate
        self.target_rate = target_rate
        self._stream = None if source_rate == target_rate else soxr.ResampleStream(source_rate, target_rate, channels)
        self._taken = 0
        self._given = 0

    def push(self, block: NDArray[np.floating], last: bool = False) -> Float32Array:
        """Take some samples and give back those that are ready.

        Args:
            block: Samples `(channels, n)`; n may be 0.
            last: No more samples will come.

        Returns:
            Samples `(channels, m)` at the target rate.
        """
        block = block.astype(np.float32, copy=False)
        if self._stream is None:
            return block
        self._taken += block.shape[1]
        if last:
            # soxr rounds the length; zeros behind the end, which it assumes there anyway, make it at least the ceiling.
            block = np.pad(block, ((0, 0), (0, -(-self.source_rate // self.target_rate))))
        resampled: Float32Array = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last).T
        if last:
            total = -(-self._taken * self.target_rate // self.source_rate)
            resampled = resampled[:, : total - self._given]
        self._given += resampled.shape[1]
        return resampled

    def missing(self, count: int) -> int:
        """Say how many samples to wait for until it is worth while to push them.

        Args:
            count: Number of outputs that are needed, at least 1.

        Returns:
            Number of further input samples.
        """
        # soxr gives large pieces at times of its own: look once in a millisecond whether the next one has come.
        return count if self._stream is None else _soxr_step(self.source_rate)

    @property
    def latency_seconds(self) -> float:
        """The longest time by which the output stays behind, if samples wait for one another as `missing` says."""
        return 0.0 if self._stream is None else _soxr_latency_seconds(self.source_rate, self.target_rate)


def _soxr_step(source_rate: int) -> int:
    return -(-source_rate // 1000)


@lru_cache(maxsize=64)
def _soxr_latency_seconds(source_rate: int, target_rate: int) -> float:
    """Measure how far soxr stays behind; its documentation does not say, and it depends on both rates."""
    stream = soxr.ResampleStream(source_rate, target_rate, 1)
    step = np.zeros((_soxr_step(source_rate), 1), np.float32)
    taken = given = 0
    latency_seconds = 0.0
    while taken < _LATENCY_PROBE_SECONDS * source_rate:
        taken += len(step)
        latency_seconds = max(latency_seconds, taken / source_rate - given / target_rate)
        given += len(stream.resample_chunk(step))
    # Another cut into steps may meet soxr's pieces up to a step later.
    return latency_seconds + len(step) / source_rate


def resample(waveform: NDArray[np.floating], source_rate: int, target_rate: int) -> Float32Array:
    """Change the rate of a whole signal.

    Args:
        waveform: Samples `(T,)` or `(C, T)`.
        source_rate: Its rate in Hz.
        target_rate: The wanted rate in Hz.

    Returns:
        ceil(T * target_rate / source_rate) float32 samples per channel, aligned with the input.
    """
    signal = np.atleast_2d(waveform)
    resampled = Resampler(source_rate, target_rate, signal.shape[0]).push(signal, last=True)
    return resampled.reshape(*waveform.shape[:-1], -1)


class PolyphaseResampler:
    """Changes the rate of a signal that comes in blocks, by any ratio; the output is aligned with the input.

    The filter is short and has linear phase: an output is there as soon as half the filter's length has come, which is
    1.9 ms from or to 16 kHz where `Resampler` waits for 36 ms and more. What it passes is as exact as 70 dB.
    n samples become ceil(n * target_rate / source_rate).

    Args:
        source_rate: Rate of the input in Hz.
        target_rate: Rate of the output in Hz.
        channels: Number of channels.

    Attributes:
        latency_seconds: The longest time by which the output stays behind the input: half the filter's length.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        divisor = math.gcd(source_rate, target_rate)
        self._up, self._down = target_rate // divisor, source_rate // divisor
        self._filters = _polyphase_filters(self._up, self._down)
        taps: int = self._filters.shape[1]
        self._ahead = taps // 2
        self._outputs = max(1, min(_OUTPUTS, _PRODUCTS // (taps * channels)))
        if self._down == 1:  # all outputs behind an input are computed from the same ones
            self._outputs *= self._up
        self.latency_seconds = self._ahead / source_rate
        self._waiting = SampleQueue(channels)
        self._waiting.append(np.zeros((channels, self._ahead - 1), np.float32))
        self._taken = 0
        self._given = 0
        self._channels = channels

    def push(self, block: NDArray[np.floating], last: bool = False) -> Float32Array:
        """Take some samples and give back those that are ready.

        Args:
            block: Samples `(channels, n)`; n may be 0.
            last: No more samples will come.

        Returns:
            Samples `(channels, m)` at the target rate.
        """
        self._waiting.append(block)
        self._taken += block.shape[1]
        if last:
            self._waiting.append(np.zeros((self._channels, self._ahead), np.float32))
        complete = self._taken if last else self._taken - self._ahead
        end = max(self._given, -(-complete * self._up // self._down))
        step = self._outputs
        pieces = [self._filter(start, min(start + step, end)) for start in range(self._given, end, step)]
        return np.concatenate(pieces, axis=1) if pieces else np.zeros((self._channels, 0), np.float32)

    def missing(self, count: int) -> int:
        """Say how many samples the next outputs need.

        Args:
            count: Number of outputs, at least 1.

        Returns:
            Number of further input samples after which `push` will have given so many more.
        """
        last = self._given + count - 1
        return max(0, last * self._down // self._up + self._ahead + 1 - self._taken)

    def _filter(self, start: int, stop: int) -> Float32Array:
        """Compute the outputs from `start` to `stop`, and forget the samples that no later one needs."""
        length = self._filters.shape[1]
        first = start * self._down // self._up
        windows = sliding_windows(self._waiting.waiting(), length)
        # From or to a multiple of the rate, such as between 16 and 48 kHz, no output needs a copy of inputs of its own.
        resampled: Float32Array
        if self._up == 1:
            resampled = np.einsum("ckt,t->ck", windows[:, :: self._down][:, : stop - start], self._filters[0])
        elif self._down == 1:
            places = np.ascontiguousarray(windows[:, : (stop - 1) // self._up - first + 1])
            at = start - first * self._up
            resampled = (places @ self._filters.T).reshape(self._channels, -1)[:, at : at + stop - start]
        else:
            position = np.arange(stop - start, dtype=np.int64) * self._down + start * self._down - first * self._up
            phase = position % self._up
            if self._up <= _MAX_PHASES:
                filters = self._filters[phase]
            else:
                whole, rest = np.divmod(phase * _MAX_PHASES, self._up)
                share = (rest / self._up).astype(np.float32)[:, np.newaxis]
                filters = (1 - share) * self._filters[whole] + share * self._filters[whole + 1]
            resampled = np.einsum("ckt,kt->ck", windows[:, position // self._up], filters)
        self._given = stop
        self._waiting.take(stop * self._down // self._up - first)
        return resampled


@lru_cache(maxsize=8)
def _polyphase_filters(up: int, down: int) -> Float32Array:
    """Filters `(phases, taps)` of a Kaiser-windowed sinc, for places of an output between two inputs.

    Output k lies at k * down / up inputs. Its filter reaches from taps / 2 - 1 inputs before the one at or before that
    place to taps / 2 inputs behind it. There is a filter for each of the `up` places; if they are too many, for
    `_MAX_PHASES` places in equal distances, and one more for the end of the last distance.
    """
    half = _HALF_LENGTH * max(1.0, down / up)
    ahead = math.ceil(half)
    places = np.arange(up) / up if up <= _MAX_PHASES else np.arange(_MAX_PHASES + 1) / _MAX_PHASES
    distance = np.arange(1 - ahead, ahead + 1) - places[:, np.newaxis]
    cutoff = _CUTOFF * min(1.0, up / down)
    # Kaiser's formula for the shape of a window with this attenuation.
    shape = 0.1102 * (_STOPBAND_DB - 8.7)
    window = np.i0(shape * np.sqrt(np.maximum(0.0, 1.0 - (distance / half) ** 2))) * (np.abs(distance) < half)
    filters = np.sinc(cutoff * distance) * window
    # Every place passes a constant with the same gain, or a constant would come out as a tone.
    return np.asarray(filters / filters.sum(axis=1, keepdims=True), np.float32)
