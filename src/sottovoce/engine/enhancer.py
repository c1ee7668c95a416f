"""Enhancement of arrays and of streams: the same engine, the same samples."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine import frames
from sottovoce.engine.confidence import ConfidenceMeter
from sottovoce.engine.frames import FRAMES_AT_ONCE, FrameStream
from sottovoce.engine.model import Float32Array, Model
from sottovoce.engine.options import EnhanceKeywords, EnhanceOptions
from sottovoce.engine.upper_band import UpperBand
from sottovoce.errors import ModelError
from sottovoce.signal.limits import MAX_CHANNELS, MAX_SAMPLE, block_frames, implausible, usable
from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.resampling import PolyphaseResampler, Resampler
from sottovoce.signal.stft import MultiResolutionSTFT
from sottovoce.weights import MODELS

WARM_UP_SECONDS = 3.0
"""Length of the beginning of a recording over which the network runs first: where voice or noise change soon, more does
harm."""


class Enhancer:
    """Gives back the speech of recordings with one model.

    Args:
        model: An exported network; see `sottovoce.load`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        metadata = model.metadata
        self.stft = MultiResolutionSTFT(metadata.windows, metadata.hop, metadata.synthesis_window)

    @classmethod
    def from_pretrained(cls, model: Path | str = "default") -> "Enhancer":
        """Load a model.

        Args:
            model: Name of a bundled model, "default" or "live"; or a model file, the file of a place, or the folder
                that `sottovoce train` or `sottovoce adapt` wrote. A file or folder with the name of a bundled model is
                given as a `Path`.

        Returns:
            An enhancer.

        Raises:
            ModelError: The file is missing, foreign, cut or of another format version.
        """
        return cls(Model.load(MODELS.get(model, model) if isinstance(model, str) else model))

    def stream(
        self, sample_rate: int, channels: int = 1, *, live: bool = False, **options: Unpack[EnhanceKeywords]
    ) -> "Stream":
        """Begin to enhance a signal that comes in blocks.

        Args:
            sample_rate: Rate of the signal in Hz.
            channels: Number of channels.
            live: Resample with a short filter: under 4 ms more latency than the model's at 22.05 kHz and above, instead
                of 75 to 170 ms. Of no effect at the model's own rate, which needs no resampling.
            **options: The fields of `EnhanceOptions`.

        Returns:
            A stream in its initial state.

        Raises:
            ValueError: An argument is out of its range.
        """
        return Stream(self, sample_rate, channels, EnhanceOptions(**options), live=live)

    def enhance(
        self, waveform: NDArray[np.floating], sample_rate: int, **options: Unpack[EnhanceKeywords]
    ) -> Float32Array:
        """Enhance a whole signal, after a warm-up on its first `WARM_UP_SECONDS`; see `Stream.reset`.

        Args:
            waveform: Samples `(T,)` or `(C, T)`, full scale ±1.
            sample_rate: Rate in Hz.
            **options: The fields of `EnhanceOptions`.

        Returns:
            Float32 samples of the input's shape, aligned to it.

        Raises:
            TypeError: It is no numpy array.
            ValueError: The array has no or more than two dimensions or no floating-point samples, or an argument is out
                of its range.
            ModelError: The network fails, or gives what is no sound.
        """
        signal = _channels_of(waveform)
        stream = self.stream(sample_rate, signal.shape[0], **options)
        stream.reset([signal[:, : round(WARM_UP_SECONDS * sample_rate)]])
        enhanced = np.concatenate([stream.push(signal), stream.flush()], axis=1)
        return enhanced.reshape(waveform.shape)

    def confidence(self, waveform: NDArray[np.floating], sample_rate: int) -> Float32Array:
        """Tell how sure the model is, second by second, that there is speech as it knows it.

        Args:
            waveform: Samples `(T,)` or `(C, T)`, full scale ±1.
            sample_rate: Rate in Hz.

        Returns:
            Confidence of every second, 0 to 1, `(seconds,)`; `ConfidenceMeter` says what it is made of, and
            `confidence.TRUSTED` what is much.

        Raises:
            TypeError: It is no numpy array.
            ValueError: The array has no or more than two dimensions or no floating-point samples, or an argument is out
                of its range.
            ModelError: The network fails, or has no decoder of speech.
        """
        signal = _channels_of(waveform)
        _require_sound(sample_rate, signal.shape[0])
        sample_rate = int(sample_rate)  # 16000.0 is a whole number, too
        meter = ConfidenceMeter(self, sample_rate, signal.shape[0])
        step = block_frames(sample_rate, signal.shape[0])
        for start in range(0, signal.shape[1], step):
            meter.push(signal[:, start : start + step])
        meter.push(signal[:, :0], last=True)
        return meter.per_second[: -(-signal.shape[1] // sample_rate)]


def _channels_of(waveform: NDArray[np.floating]) -> NDArray[np.floating]:
    """A whole signal as `(channels, samples)`, or an error that says what is wrong with it."""
    require_samples(waveform)
    if waveform.ndim not in (1, 2):
        raise ValueError(f"found an array of shape {waveform.shape}, expected (samples,) or (channels, samples)")
    return np.atleast_2d(waveform)


def _require_sound(sample_rate: int, channels: int) -> None:
    """Refuse rates and numbers of channels that no sound has."""
    wrong = implausible(sample_rate, channels)
    if wrong is not None:
        advice = ": arrays are (channels, samples), so transpose one of (samples, channels)"
        raise ValueError(f"found {wrong}{advice if channels > MAX_CHANNELS else ''}")


def require_samples(array: object) -> None:
    """Refuse what is no array of samples.

    Args:
        array: What was given.

    Raises:
        TypeError: It is no numpy array.
        ValueError: Its numbers are no floating-point ones.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"found a {type(array).__name__}, expected a numpy array (samples,) or (channels, samples) of "
            "floating-point numbers with full scale ±1: convert it with numpy.asarray(..., numpy.float32)"
        )
    if array.dtype.kind != "f":
        raise ValueError(
            f"found samples of type {array.dtype}, expected floating-point numbers with full scale ±1: divide integers "
            "by their full scale, 32768 for 16 bits"
        )


class Stream:
    """One signal on its way through a model: blocks in, blocks out, then `flush`.

    The blocks that come out, joined, have the length of those that went in and are aligned to them; each comes as soon
    as model and resamplers allow. Other blocks give the same samples but for the network's rounding, which depends on
    how many frames it is given at once. A sample within full scale stays within: every output is cut at ±1, or at the
    size of its own input sample where that is larger, which needs no memory of other samples and so no look-ahead.
    `Enhancer.stream` makes one.

    Whoever has many streams at once sends them through the network together, which costs less: `append` and `end` take
    what `push` and `flush` would, `advance` is called while streams have `waiting_frames`, and `take` gives the rest.

    Args:
        enhancer: The engine.
        sample_rate: Rate of the signal in Hz.
        channels: Number of channels.
        options: How to enhance.
        live: Resample with a short filter, as `Enhancer.stream` describes.

    Raises:
        ValueError: An argument is out of its range.
    """

    _frames: FrameStream

    def __init__(
        self,
        enhancer: Enhancer,
        sample_rate: int,
        channels: int = 1,
        options: EnhanceOptions | None = None,
        *,
        live: bool = False,
    ) -> None:
        options = options or EnhanceOptions()
        _require_sound(sample_rate, channels)
        self.sample_rate = int(sample_rate)
        self.channels = channels
        self._model = enhancer.model
        self._stft = enhancer.stft
        self._model_rate = enhancer.model.metadata.sample_rate
        self._floor = 0.0 if options.limit_db is None else 10 ** (-options.limit_db / 20)
        self._mix = np.float32(options.mix)
        # At the model's own rate there is no band above the model's.
        self._full_band = options.full_band and sample_rate != self._model_rate
        self._linked = options.linked
        self._removed = options.removed
        self._room = options.room
        self._resampler = PolyphaseResampler if live and sample_rate != self._model_rate else Resampler
        # Longer blocks are cut to this, which bounds the memory.
        self._piece = block_frames(self.sample_rate, channels)
        self.reset()

    def reset(self, beginning: Iterable[NDArray[np.floating]] = ()) -> None:
        """Begin another signal: the stream is as new.

        Args:
            beginning: The first seconds of that signal, where they are known before it is pushed; blocks
                `(channels, n)` as those of `push`. The network runs over them once without output, so that it has met
                voice and noise before the first sample. Sound of another voice or place does harm.

        Raises:
            TypeError: A block is no numpy array.
            ValueError: A block has another number of channels than the stream, or no floating-point samples.
            ModelError: The network fails, or gives what is no sound.
        """
        self._to_model = self._resampler(self.sample_rate, self._model_rate, self.channels)
        self._from_model = self._resampler(self._model_rate, self.sample_rate, self.channels)
        self._upper_band = (
            UpperBand(
                self._stft, self._model_rate, self.sample_rate, self.channels, linked=self._linked, floor=self._floor
            )
            if self._full_band
            else None
        )
        self._frames = self._first_frames(self._upper_band)
        self._frames.past = self._past_after(beginning)
        self._gains = _GainCurve(self._model_rate, self.sample_rate, 1 if self._linked else self.channels)
        # Samples wait here for the output that belongs to them; the newest have not been looked at yet.
        self._input = SampleQueue(self.channels)
        self._new = 0
        self._wanted = self._to_model.missing(self._frames.missing)
        self._is_advanced = False
        self._flushed = False

    def _first_frames(self, upper_band: UpperBand | None) -> FrameStream:
        return FrameStream(
            self._model,
            self._stft,
            self.channels,
            floor=self._floor,
            linked=self._linked,
            room=self._room,
            upper_band=upper_band,
        )

    def _past_after(self, beginning: Iterable[NDArray[np.floating]]) -> list[Float32Array]:
        """State of the network after the beginning of a signal."""
        to_model = Resampler(self.sample_rate, self._model_rate, self.channels)
        blocks = map(self._checked, beginning)
        parts = [to_model.push(usable(block)) for block in blocks]
        frames = self._first_frames(None)
        if parts:
            parts.append(to_model.push(parts[0][:, :0], last=True))
            frames.push(np.concatenate(parts, axis=1))
        return frames.past

    def exchange(self, model: Model) -> None:
        """Go on with another model from the next frame on, such as the same one adapted to the place.

        What the network remembers of the signal stays, and frames overlap: the output has no gap, and the same latency.
        Another thread may call this while one pushes.

        Args:
            model: A model with the same frames and states.

        Raises:
            ModelError: It has others.
        """
        old, new = self._model.metadata, model.metadata
        if not new.is_interchangeable_with(old):
            raise ModelError(
                f"found the model {new.name} in a stream of {old.name}, which has other frames or states, expected "
                f"{old.name} or a model adapted from it: begin a new stream"
            )
        self._model = model
        self._frames.model = model

    @property
    def latency_seconds(self) -> float:
        """Algorithmic latency: the longest time by which the output stays behind the input.

        It is that of the model's window and look-ahead, and of both resamplers. What is above the model's band waits
        for the rest, and adds nothing.
        """
        resampling = self._to_model.latency_seconds + self._from_model.latency_seconds
        return self._model.metadata.latency_seconds + resampling

    def push(self, block: NDArray[np.floating], sample_rate: int | None = None) -> Float32Array:
        """Take some samples and give back those that are ready.

        Args:
            block: Samples `(channels, n)`, or `(n,)` for one channel, full scale ±1; any n. Samples that are not finite
                or beyond ±1e9 count as 0.
            sample_rate: Rate of this block in Hz where it is known, to be checked.

        Returns:
            Enhanced samples `(channels, m)`; m is often not n.

        Raises:
            TypeError: The block is no numpy array.
            ValueError: The block has another rate or number of channels than the stream, or no floating-point samples,
                or the stream was flushed.
            ModelError: The network fails, or gives what is no sound.
        """
        if self._flushed:
            raise ValueError("found a block after flush, expected a new signal: call reset before it")
        if sample_rate is not None and sample_rate != self.sample_rate:
            raise ValueError(
                f"found a block at {sample_rate} Hz in a stream at {self.sample_rate} Hz, expected one rate: "
                "begin a new stream"
            )
        block = self._checked(block)
        count = block.shape[1]
        if count <= self._piece:
            return self._push(block)
        pieces = [self._push(block[:, start : start + self._piece]) for start in range(0, count, self._piece)]
        return np.concatenate(pieces, axis=1)

    def flush(self) -> Float32Array:
        """End the signal.

        Returns:
            The samples `(channels, m)` that were still on their way.

        Raises:
            ValueError: The stream was flushed before.
            ModelError: The network fails, or gives what is no sound.
        """
        self.end()
        return self._advanced()

    def append(self, block: Float32Array) -> None:
        """Take some samples, and leave them waiting.

        Args:
            block: Samples `(channels, n)`, as those of `push`, of a fraction of a second: longer blocks take memory.
        """
        self._input.append(block)
        self._new += block.shape[1]
        # Until there is enough for a frame, a block costs no more than its copy.
        if self._new >= self._wanted:
            self._resample()

    def end(self) -> None:
        """End the signal, and leave the rest waiting.

        Raises:
            ValueError: The stream was flushed before.
        """
        if self._flushed:
            raise ValueError("found a second flush, expected one at the end of a signal: call reset for a new one")
        self._flushed = True
        # There and back, the resamplers give at least as many samples as came in.
        self._resample()

    @property
    def waiting_frames(self) -> int:
        """Number of frames that have not gone through the network."""
        return self._frames.waiting_frames

    def take(self) -> Float32Array:
        """Give what is ready.

        Returns:
            Enhanced samples `(channels, m)`.

        Raises:
            ModelError: The network has failed, or has given what is no sound.
        """
        if not self._is_advanced:
            return np.zeros((self.channels, 0), np.float32)
        self._is_advanced = False
        enhanced, gains = self._frames.take()
        enhanced = self._from_model.push(enhanced, self._flushed)
        self._wanted = self._to_model.missing(self._frames.missing)
        count = min(enhanced.shape[1], len(self._input))
        if gains is not None:
            self._gains.append(gains)
        # A resampler may give a sixth of a second at once.
        pieces = [
            self._mixed(enhanced[:, start : min(start + self._piece, count)]) for start in range(0, count, self._piece)
        ]
        return np.concatenate(pieces, axis=1) if pieces else enhanced[:, :0]

    def _checked(self, block: NDArray[np.floating]) -> NDArray[np.floating]:
        """A block as `(channels, n)`, or an error that says what is wrong with it."""
        require_samples(block)
        if block.ndim == 1:
            block = block[np.newaxis]
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(
                f"found a block of shape {block.shape}, expected ({self.channels}, samples): begin a new stream for "
                "another number of channels"
            )
        return block

    def _push(self, block: NDArray[np.floating]) -> Float32Array:
        if block.dtype != np.float32:
            with np.errstate(over="ignore"):
                block = block.astype(np.float32)
        self.append(block)
        return self._advanced()

    def _advanced(self) -> Float32Array:
        while self.waiting_frames:
            advance([self])
        return self.take()

    def _resample(self) -> None:
        """Send the new samples to the model's rate."""
        waiting = self._input.waiting()
        new = waiting[:, waiting.shape[1] - self._new :]
        self._new = 0
        self._is_advanced = True
        # Every comparison with NaN is false.
        new[~(np.abs(new) < MAX_SAMPLE)] = 0
        if self._upper_band is not None:
            self._upper_band.append(new, self._flushed)
        self._frames.append(self._to_model.push(new, self._flushed), self._flushed)

    def _mixed(self, enhanced: Float32Array) -> Float32Array:
        """Put the next enhanced samples together with the input that belongs to them."""
        count = enhanced.shape[1]
        dry = self._input.take(count)
        if self._full_band:
            enhanced = enhanced + self._gains.take(count) * dry
        if self._mix != 1:
            enhanced = self._mix * enhanced + (1 - self._mix) * dry
        ceiling = np.maximum(np.abs(dry), np.float32(1))
        enhanced = np.clip(enhanced, -ceiling, ceiling)
        return dry - enhanced if self._removed else enhanced


def advance(streams: Sequence[Stream], most: int = FRAMES_AT_ONCE) -> None:
    """Send frames of some streams through their networks: in one call those that have one network, as many of each.

    In one call with others, a stream gets other rounding than alone: amplitudes differ by less than 1e-5 of the largest
    in the frame. Where the network fails for a stream, its own `take` says so, and the others go on.

    Args:
        streams: Streams that have `waiting_frames`.
        most: Frames of all channels of a network at once, which bounds memory and time; but one of each stream goes.
    """
    by_model: dict[int, list[FrameStream]] = {}
    for stream in streams:
        by_model.setdefault(id(stream._frames.model), []).append(stream._frames)
    for group in by_model.values():
        frames.advance(group, most)


class _GainCurve:
    """Gains at the model's rate, read at the times of the samples of another rate."""

    def __init__(self, source_rate: int, target_rate: int, channels: int) -> None:
        self._source_rate = source_rate
        self._target_rate = target_rate
        self._waiting = SampleQueue(channels)
        self._first = 0
        self._given = 0

    def append(self, gains: Float32Array) -> None:
        self._waiting.append(gains)

    def take(self, count: int) -> Float32Array:
        """The next gains `(channels, count)`: the curve is so smooth that straight lines will do between its points."""
        curve = self._waiting.waiting()
        place = self._given * self._source_rate - self._first * self._target_rate
        position = (place + self._source_rate * np.arange(count, dtype=np.int64)) / self._target_rate
        points = np.arange(curve.shape[1])
        gains = np.array([np.interp(position, points, row) for row in curve], np.float32) if count else curve[:, :0]
        self._given += count
        done = self._given * self._source_rate // self._target_rate - self._first
        self._first += done
        self._waiting.take(done)
        return gains
