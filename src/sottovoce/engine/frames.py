"""A signal at the model's rate on its way through the network, frame by frame."""

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.model import Float32Array, Model
from sottovoce.engine.upper_band import UpperBand, power
from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.stft import MultiResolutionSTFT

_TINY = np.float32(1e-30)
# Frames of all channels that go through the network at once, which bounds its memory.
_FRAMES_AT_ONCE = 256
_PHASE_ZERO = np.array([1, 0], np.float32)[:, np.newaxis, np.newaxis]


class FrameStream:
    """Samples in, as many enhanced samples out, later by the model's latency but aligned.

    With an `upper_band`, what comes out is not the enhanced signal y but its two parts y - g x and g: x is the input,
    and g the gain over time of what lies above the model's band. Where the input is known in a wider band than the
    model's, as X, then g X + (y - g x) is the enhanced signal, and what lies above the model's band has the gain g.

    Args:
        model: The network.
        stft: Its frames.
        channels: Number of channels.
        floor: Least gain of any bin of any frame, 0 to 1.
        linked: One network run for all channels, which all get its gains.
        room: What of the room to keep; see `EnhanceOptions`.
        upper_band: What gives g; None for the enhanced signal alone.
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
        self._model = model
        self._stft = stft
        self._channels = channels
        self._floor = np.float32(floor)
        self._linked = linked and channels > 1
        batch = 1 if self._linked else channels
        self._past = model.initial_past(batch, room)
        self._waiting = SampleQueue(channels)
        self._waiting.append(np.zeros((channels, stft.window - stft.hop), np.float32))
        self._frames_to_drop = metadata.delay_frames
        self._waiting_spectra = np.zeros((channels + self._linked, 2, stft.bins[0], 0), np.float32)
        self._samples_to_drop = stft.overlap
        self._tail = np.zeros((channels, stft.overlap), np.float32)
        frames_at_once = max(1, _FRAMES_AT_ONCE // channels)
        self._samples_at_once = stft.window + (frames_at_once - 1) * stft.hop
        self._flush_samples = stft.window + metadata.delay_frames * stft.hop
        self._taken = 0
        self._given = 0
        self._upper_band = upper_band
        self._gain_tail = np.zeros((batch, stft.overlap), np.float32)

    @property
    def missing(self) -> int:
        """Number of samples that the next frame needs."""
        return self._stft.window - len(self._waiting)

    def push(self, samples: Float32Array, last: bool = False) -> tuple[Float32Array, Float32Array | None]:
        """Take some samples and give back those that are ready.

        Args:
            samples: `(channels, n)`; n may be 0.
            last: No more samples will come.

        Returns:
            `(channels, m)`: the enhanced samples, or y - g x; and None, or g, 0 to 1, as `(channels, m)`, `(1, m)` if
            the channels are linked.
        """
        self._waiting.append(samples)
        self._taken += samples.shape[1]
        if last:
            # Zeros push out what the window and the network's delay still hold.
            self._waiting.append(np.zeros((self._channels, self._flush_samples), np.float32))
        enhanced, gains = self._advance()
        while self.missing <= 0:
            more_enhanced, more_gains = self._advance()
            enhanced = np.concatenate([enhanced, more_enhanced], axis=1)
            if gains is not None and more_gains is not None:
                gains = np.concatenate([gains, more_gains], axis=1)
        count = min(enhanced.shape[1], self._taken - self._given)
        self._given += count
        return enhanced[:, :count], None if gains is None else gains[:, :count]

    def _advance(self) -> tuple[Float32Array, Float32Array | None]:
        """Enhance the frames that are complete, or as many of them as may go at once."""
        stft = self._stft
        spectra = stft.spectra(stft.frames(self._waiting.waiting()[:, : self._samples_at_once]))
        count = spectra.shape[-1]
        self._waiting.take(count * stft.hop)
        dropped = min(self._frames_to_drop, count)
        self._frames_to_drop -= dropped
        if count:
            received = _joined(spectra) if self._linked else spectra
            enhanced, self._past = self._model.run(np.ascontiguousarray(received), self._past)
            mixture, received = self._aligned(spectra, received, count - dropped)
        if count == dropped:
            nothing = np.zeros((self._channels, 0), np.float32)
            return nothing, nothing[: len(self._gain_tail)] if self._upper_band else None
        enhanced = self._limited(enhanced[..., dropped:], received)
        gains = self._upper_band.gains(enhanced, received) if self._upper_band else None
        if self._linked:
            enhanced = _scaled(mixture, enhanced, received)
        if gains is not None:
            enhanced = enhanced - gains[:, np.newaxis, np.newaxis] * mixture
        samples, self._tail = self._overlapped(stft.overlap_add(enhanced), self._tail)
        gain_over_time = None
        if gains is not None:
            gain_over_time, self._gain_tail = self._overlapped(stft.gain_over_time(gains), self._gain_tail)
        past = min(self._samples_to_drop, samples.shape[1])
        self._samples_to_drop -= past
        return samples[:, past:], None if gain_over_time is None else gain_over_time[:, past:]

    def _aligned(self, mixture: Float32Array, received: Float32Array, count: int) -> tuple[Float32Array, Float32Array]:
        """The next `count` frames of what waits as long as the network lags: the mixture and the network's input."""
        spectra = np.concatenate([mixture, received]) if self._linked else mixture
        waiting = np.concatenate([self._waiting_spectra, spectra[:, :, : self._stft.bins[0]]], axis=-1)
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


def _joined(spectra: Float32Array) -> Float32Array:
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
