"""A signal at the model's rate on its way through the network, frame by frame."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.model import Float32Array, Model
from sottovoce.engine.upper_band import UpperBand, power
from sottovoce.errors import ModelError
from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.stft import MultiResolutionSTFT

FRAMES_AT_ONCE = 256
"""Frames of all channels that go through the network at once, which bounds its memory."""

_TINY = np.float32(1e-30)
_PHASE_ZERO = np.array([1, 0], np.float32)[:, np.newaxis, np.newaxis]


class FrameStream:
    """Samples in, as many enhanced samples out, later by the model's latency but aligned.

    With an `upper_band`, what comes out is not the enhanced signal y but its two parts y - g x and g: x is the input,
    and g the gain over time of what lies above the model's band. Where the input is known in a wider band than the
    model's, as X, then g X + (y - g x) is the enhanced signal, and what lies above the model's band has the gain g.

    Samples are taken by `append`, go through the network when `advance` is called, for this signal alone or for several
    at once, and are given by `take`; `push` is all of it for one signal.

    Args:
        model: The network.
        stft: Its frames.
        channels: Number of channels.
        floor: Least gain of any bin of any frame, 0 to 1.
        linked: One network run for all channels, which all get its gains.
        room: What of the room to keep; see `EnhanceOptions`.
        upper_band: What gives g; None for the enhanced signal alone.

    Attributes:
        model: The network; another one with the same frames and states may take its place at any time.
        past: State of the network, `(rows, channels, frames)` for every layer.
    """

    def __init__(
        self,
        model: Model,
        stft: MultiResolutionSTFT,
        channels: int,
        *,
        floor: float,
        linked: bool,
        room: str = "natural",
        upper_band: UpperBand | None = None,
    ) -> None:
        metadata = model.metadata
        self.model = model
        self._stft = stft
        self._channels = channels
        self._floor = np.float32(floor)
        self._linked = linked and channels > 1
        self._rows = 1 if self._linked else channels
        self.past = model.initial_past(self._rows, room)
        self._waiting = SampleQueue(channels)
        self._waiting.append(np.zeros((channels, stft.window - stft.hop), np.float32))
        self._frames_to_drop = metadata.delay_frames
        self._waiting_spectra = np.zeros((channels + self._linked, 2, stft.bins[0], 0), np.float32)
        self._samples_to_drop = stft.overlap
        self._tail = np.zeros((channels, stft.overlap), np.float32)
        self._flush_samples = stft.window + metadata.delay_frames * stft.hop
        self._taken = 0
        self._given = 0
        self._upper_band = upper_band
        self._gain_tail = np.zeros((self._rows, stft.overlap), np.float32)
        self._complete: list[tuple[Float32Array, Float32Array | None]] = []
        self._error: ModelError | None = None

    @property
    def missing(self) -> int:
        """Number of samples that the next frame needs."""
        return self._stft.window - len(self._waiting)

    @property
    def waiting_frames(self) -> int:
        """Number of complete frames that have not gone through the network; none after it failed."""
        return 0 if self._error else max(0, 1 + (-self.missing) // self._stft.hop)

    def push(self, samples: Float32Array, last: bool = False) -> tuple[Float32Array, Float32Array | None]:
        """Take some samples and give back those that are ready.

        Args:
            samples: `(channels, n)`; n may be 0.
            last: No more samples will come.

        Returns:
            `(channels, m)`: the enhanced samples, or y - g x; and None, or g, 0 to 1, as `(channels, m)`, `(1, m)` if
            the channels are linked.

        Raises:
            ModelError: The network fails, or gives what is no sound.
        """
        self.append(samples, last)
        while self.waiting_frames:
            advance([self])
        return self.take()

    def append(self, samples: Float32Array, last: bool = False) -> None:
        """Take some samples.

        Args:
            samples: `(channels, n)`; n may be 0.
            last: No more samples will come.
        """
        self._waiting.append(samples)
        self._taken += samples.shape[1]
        if last:
            # Zeros push out what the window and the network's delay still hold.
            self._waiting.append(np.zeros((self._channels, self._flush_samples), np.float32))

    def take(self) -> tuple[Float32Array, Float32Array | None]:
        """Give the samples that are ready.

        Returns:
            As `push`.

        Raises:
            ModelError: The network has failed, or has given what is no sound.
        """
        if self._error is not None:
            raise self._error
        nothing = np.zeros((self._channels, 0), np.float32)
        parts = self._complete or [(nothing, nothing[: self._rows] if self._upper_band else None)]
        self._complete = []
        enhanced = _joined([samples for samples, _ in parts], axis=1)
        gains = _joined([gain for _, gain in parts if gain is not None], axis=1) if self._upper_band else None
        count = min(enhanced.shape[1], self._taken - self._given)
        self._given += count
        return enhanced[:, :count], None if gains is None else gains[:, :count]

    def _frames(self, count: int) -> Float32Array:
        """The next frames `(channels, count, W)`."""
        needed = self._stft.window + (count - 1) * self._stft.hop
        return self._stft.frames(self._waiting.waiting()[:, :needed])

    def _gained(
        self, mixture: Float32Array, received: Float32Array, enhanced: Float32Array
    ) -> tuple[Float32Array, Float32Array | None]:
        """What is made of the next frames, and the gains g: none of those for which a network that lags gives none."""
        count = enhanced.shape[-1]
        self._waiting.take(count * self._stft.hop)
        dropped = min(self._frames_to_drop, count)
        self._frames_to_drop -= dropped
        mixture, received = self._aligned(mixture, received, count - dropped)
        enhanced = self._limited(enhanced[..., dropped:], received)
        if self._upper_band is None or count == dropped:
            return _scaled(mixture, enhanced, received) if self._linked else enhanced, None
        gains = self._upper_band.gains(enhanced, received)
        if self._linked:
            enhanced = _scaled(mixture, enhanced, received)
        return enhanced - gains[:, np.newaxis, np.newaxis] * mixture, gains

    def _complete_samples(self, added: Float32Array, gains: Float32Array | None) -> None:
        """Keep what is ready of frames that were added up."""
        samples, self._tail = self._overlapped(added, self._tail)
        gain_over_time = None
        if gains is not None:
            gain_over_time, self._gain_tail = self._overlapped(self._stft.gain_over_time(gains), self._gain_tail)
        past = min(self._samples_to_drop, samples.shape[1])
        self._samples_to_drop -= past
        self._complete.append((samples[:, past:], None if gain_over_time is None else gain_over_time[:, past:]))

    def _aligned(self, mixture: Float32Array, received: Float32Array, count: int) -> tuple[Float32Array, Float32Array]:
        """The next `count` frames of what waits as long as the network lags: the mixture and the network's input."""
        bins = self._stft.bins[0]
        if not self.model.metadata.delay_frames:
            return mixture[:, :, :bins], received[:, :, :bins]
        spectra = np.concatenate([mixture, received]) if self._linked else mixture
        waiting = np.concatenate([self._waiting_spectra, spectra[:, :, :bins]], axis=-1)
        self._waiting_spectra = waiting[..., count:].copy()
        return waiting[: self._channels, ..., :count], waiting[-len(received) :, ..., :count]

    def _limited(self, enhanced: Float32Array, received: Float32Array) -> Float32Array:
        """Raise bins to the attenuation limit."""
        if self._floor == 0:
            return enhanced
        floor = self._floor * received
        too_low = power(enhanced) < power(floor)
        return np.where(too_low[:, np.newaxis], floor, enhanced)

    def _overlapped(self, added: Float32Array, tail: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Add what earlier frames left; returns the samples that are complete, and what is left for later frames."""
        overlap = self._stft.overlap
        added[:, :overlap] += tail
        return added[:, :-overlap], added[:, -overlap:].copy()


def advance(streams: Sequence[FrameStream], most: int = FRAMES_AT_ONCE) -> None:
    """Send the next frames of some signals through their network in one call, as many frames of each.

    In one call with others, a signal gets other rounding than alone, and nothing else of them. A network that fails for
    one of them fails for that one alone, whose `take` says so.

    Args:
        streams: Streams of one model, all of which have frames that wait.
        most: Frames of all channels at once, but for one of each, which bounds memory and time.
    """
    if len(streams) > 1 and any(stream._frames_to_drop for stream in streams):
        for stream in streams:  # which get unequal numbers of frames from a network that lags
            advance([stream], most)
        return
    model, stft = streams[0].model, streams[0]._stft
    channels, rows = [stream._channels for stream in streams], [stream._rows for stream in streams]
    count = max(1, min(*(stream.waiting_frames for stream in streams), most // sum(channels)))
    mixtures = _divided(stft.spectra(_joined([stream._frames(count) for stream in streams])), channels)
    received = [
        _mean(mixture) if stream._linked else mixture for stream, mixture in zip(streams, mixtures, strict=True)
    ]
    try:
        enhanced, following = model.run(
            _joined(received), [_joined(states) for states in zip(*(stream.past for stream in streams), strict=True)]
        )
    except ModelError as error:
        if len(streams) == 1:
            streams[0]._error = error
        for stream in streams if len(streams) > 1 else ():  # to find out for whom
            advance([stream], most)
        return
    for stream, *past in zip(streams, *(_divided(states, rows) for states in following), strict=True):
        stream.past = past
    gained = [
        stream._gained(*spectra)
        for stream, *spectra in zip(streams, mixtures, received, _divided(enhanced, rows), strict=True)
    ]
    spectra = _joined([spectra for spectra, _ in gained])
    if spectra.shape[-1]:
        for stream, samples, (_, gains) in zip(
            streams, _divided(stft.overlap_add(spectra), channels), gained, strict=True
        ):
            stream._complete_samples(samples, gains)


def _joined(arrays: Sequence[Float32Array], axis: int = 0) -> Float32Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=axis)


def _divided(array: Float32Array, rows: Sequence[int]) -> list[Float32Array]:
    """The opposite of `_joined`: so many rows for each."""
    ends = list(accumulate(rows))
    return [array[end - count : end] for end, count in zip(ends, rows, strict=True)]


def _mean(spectra: Float32Array) -> Float32Array:
    """One spectrum `(1, 2, F, N)` for all channels: their root mean square, with the phase of their sum.

    A plain downmix loses what is in opposite phase in two channels, so the network's input would lack it.
    """
    total = spectra.sum(axis=0)
    size = np.sqrt(power(total))
    # Where channels cancel to the last digit any phase will do.
    phasor = np.where(size > 0, total / np.where(size > 0, size, 1), _PHASE_ZERO)
    return np.asarray(np.sqrt(power(spectra).mean(axis=0)) * phasor, np.float32)[np.newaxis]


def _scaled(mixture: Float32Array, enhanced: Float32Array, received: Float32Array) -> Float32Array:
    """Give all channels the complex gains that the network gave to its input.

    No bin is larger than the enhanced one by more than the root of the number of channels, as the network's
    input is their root mean square.
    """
    ratio = _complex(enhanced) * _complex(received).conj() / np.maximum(power(received), _TINY)
    scaled = ratio * _complex(mixture)
    return np.stack([scaled.real, scaled.imag], axis=1)


def _complex(spectra: Float32Array) -> NDArray[np.complex64]:
    """Complex numbers `(C, F, N)` of real and imaginary parts `(C, 2, F, N)`."""
    return np.asarray(spectra[:, 0] + 1j * spectra[:, 1], np.complex64)
