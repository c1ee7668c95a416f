"""Enhancement of arrays and of streams: the same engine, the same samples."""

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.model import Float32Array, Model
from sottovoce.signal.audio import Resampler
from sottovoce.signal.stft import MultiResolutionSTFT

_BLOCK_SECONDS = 4.0


class Enhancer:
    """Gives back the speech of recordings with one model.

    Args:
        model: An exported network; see `sottovoce.load`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.stft = MultiResolutionSTFT(model.metadata.windows, model.metadata.hop)

    def stream(
        self, sample_rate: int, channels: int = 1, *, limit_db: float | None = None, mix: float = 1.0
    ) -> "Stream":
        """Begin to enhance a signal that comes in blocks.

        Args:
            sample_rate: Rate of the signal in Hz.
            channels: Number of channels, each enhanced for itself.
            limit_db: The most attenuation allowed at any time and frequency, in dB; None for no limit.
            mix: Share of the enhanced signal in the output, 0 (the input) to 1.

        Returns:
            A stream in its initial state.

        Raises:
            ValueError: An argument is out of its range.
        """
        return Stream(self, sample_rate, channels, limit_db=limit_db, mix=mix)

    def enhance(
        self, waveform: NDArray[np.floating], sample_rate: int, *, limit_db: float | None = None, mix: float = 1.0
    ) -> Float32Array:
        """Enhance a whole signal.

        Args:
            waveform: Samples `(T,)` or `(C, T)`, full scale ±1.
            sample_rate: Rate in Hz.
            limit_db: The most attenuation allowed at any time and frequency, in dB; None for no limit.
            mix: Share of the enhanced signal in the output, 0 (the input) to 1.

        Returns:
            Float32 samples of the input's shape, aligned to it.

        Raises:
            ValueError: The array has no or more than two dimensions, or an argument is out of its range.
        """
        if waveform.ndim not in (1, 2):
            raise ValueError(f"found an array of shape {waveform.shape}, expected (samples,) or (channels, samples)")
        signal = np.atleast_2d(waveform)
        stream = self.stream(sample_rate, signal.shape[0], limit_db=limit_db, mix=mix)
        size = max(1, round(_BLOCK_SECONDS * sample_rate))
        pieces = [stream.push(signal[:, start : start + size]) for start in range(0, signal.shape[1], size)]
        enhanced = np.concatenate([*pieces, stream.flush()], axis=1)
        return enhanced.reshape(waveform.shape)


class Stream:
    """One signal on its way through a model: blocks in, blocks out, then `flush`.

    The blocks that come out, joined, have the length of those that went in and are aligned to them; each comes as soon
    as the model and the resampler allow. Made by `Enhancer.stream`.
    """

    def __init__(
        self, enhancer: Enhancer, sample_rate: int, channels: int, *, limit_db: float | None, mix: float
    ) -> None:
        if sample_rate <= 0 or channels < 1:
            raise ValueError(f"found rate {sample_rate} Hz and {channels} channels, expected positive numbers")
        if limit_db is not None and not limit_db >= 0:
            raise ValueError(f"found limit_db {limit_db}, expected the most attenuation allowed, 0 dB or more")
        if not 0 <= mix <= 1:
            raise ValueError(f"found mix {mix}, expected 0 (the input) to 1 (enhanced only)")
        metadata = enhancer.model.metadata
        self.sample_rate = sample_rate
        self.channels = channels
        self._model = enhancer.model
        self._stft = enhancer.stft
        self._floor = 0.0 if limit_db is None else 10 ** (-limit_db / 20)
        self._mix = mix
        self._overlap = self._stft.window - self._stft.hop
        self._to_model = Resampler(sample_rate, metadata.sample_rate, channels)
        self._from_model = Resampler(metadata.sample_rate, sample_rate, channels)
        self._past = self._model.initial_past(channels)
        self._buffer = np.zeros((channels, self._overlap), np.float32)
        self._mixture_spectra = np.zeros((channels, 2, self._stft.bins[0], 0), np.float32)
        self._frames_to_drop = metadata.delay_frames
        self._tail = np.zeros((channels, self._overlap), np.float32)
        self._samples_to_drop = self._overlap
        self._dry = np.zeros((channels, 0), np.float32)
        self._model_samples = 0
        self._enhanced_samples = 0
        self._flushed = False

    @property
    def latency_seconds(self) -> float:
        """Algorithmic latency of window and network, without the resampler's."""
        return self._model.metadata.latency_seconds

    def push(self, block: NDArray[np.floating]) -> Float32Array:
        """Take some samples and give back those that are ready.

        Args:
            block: Samples `(channels, n)`, or `(n,)` for one channel; samples that are not finite count as 0.

        Returns:
            Enhanced samples `(channels, m)`; m is often not n.

        Raises:
            ValueError: The number of channels differs from the stream's, or the stream was flushed.
        """
        block = np.atleast_2d(block)
        if self._flushed:
            raise ValueError("found a block after flush, expected a new stream for a new signal")
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"found a block of shape {block.shape}, expected ({self.channels}, samples)")
        finite = np.nan_to_num(block.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        self._dry = np.concatenate([self._dry, finite], axis=1)
        return self._emit(self._from_model.push(self._process(self._to_model.push(finite))))

    def flush(self) -> Float32Array:
        """End the signal.

        Returns:
            The samples `(channels, m)` that were still on their way.
        """
        self._flushed = True
        last = self._process(self._to_model.push(np.zeros((self.channels, 0), np.float32), last=True))
        missing = self._model_samples - self._enhanced_samples
        if missing > 0:
            # Zero frames push out what the window and the network's delay still hold.
            silence = missing + self._stft.hop * self._frames_to_drop + self._stft.window
            tail = self._advance(np.zeros((self.channels, silence), np.float32))[:, :missing]
            last = np.concatenate([last, tail], axis=1)
        # There and back, the resamplers give at least as many samples as came in.
        return self._emit(self._from_model.push(last, last=True))

    def _process(self, samples: Float32Array) -> Float32Array:
        self._model_samples += samples.shape[1]
        enhanced = self._advance(samples)
        self._enhanced_samples += enhanced.shape[1]
        return enhanced

    def _advance(self, samples: Float32Array) -> Float32Array:
        """Enhance samples at the model's rate; returns those that are complete."""
        stft, hop = self._stft, self._stft.hop
        self._buffer = np.concatenate([self._buffer, samples], axis=1)
        spectra = stft.spectra(stft.frames(self._buffer))
        count = spectra.shape[-1]
        if count == 0:
            return np.zeros((self.channels, 0), np.float32)
        self._buffer = self._buffer[:, count * hop :]
        enhanced, self._past = self._model.run(np.ascontiguousarray(spectra), self._past)
        dropped = min(self._frames_to_drop, count)
        self._frames_to_drop -= dropped
        enhanced = self._limit(enhanced[..., dropped:], spectra[:, :, : stft.bins[0]])
        if enhanced.shape[-1] == 0:
            return np.zeros((self.channels, 0), np.float32)
        added = stft.overlap_add(enhanced)
        added[:, : self._overlap] += self._tail
        ready = enhanced.shape[-1] * hop
        self._tail = added[:, ready:]
        past = min(self._samples_to_drop, ready)
        self._samples_to_drop -= past
        return added[:, past:ready]

    def _limit(self, enhanced: Float32Array, mixture: Float32Array) -> Float32Array:
        """Raise bins to the attenuation limit; the mixture waits as many frames as the network lags."""
        if self._floor == 0:
            return enhanced
        waiting = np.concatenate([self._mixture_spectra, mixture], axis=-1)
        count = enhanced.shape[-1]
        self._mixture_spectra = waiting[..., count:]
        floor = self._floor * waiting[..., :count]
        too_low = np.hypot(*np.moveaxis(enhanced, 1, 0)) < np.hypot(*np.moveaxis(floor, 1, 0))
        return np.where(too_low[:, np.newaxis], floor, enhanced)

    def _emit(self, enhanced: Float32Array) -> Float32Array:
        """Join with the waiting input, and never give more than came in."""
        count = min(enhanced.shape[1], self._dry.shape[1])
        dry, self._dry = self._dry[:, :count], self._dry[:, count:]
        if self._mix == 1:
            return enhanced[:, :count]
        return np.float32(self._mix) * enhanced[:, :count] + np.float32(1 - self._mix) * dry
