"""How sure a model is that a recording holds speech as it knows it, and what is left alone where it does not."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.adapters import ADAPTED_SUFFIX
from sottovoce.engine.frames import FRAMES_AT_ONCE
from sottovoce.engine.model import Float32Array, Model
from sottovoce.errors import ConfigError
from sottovoce.signal.limits import usable
from sottovoce.signal.queue import SampleQueue
from sottovoce.signal.resampling import Resampler

if TYPE_CHECKING:
    from sottovoce.engine.enhancer import Enhancer

NEIGHBOURS = 4
"""Seconds before and behind a second that count for it as much as itself."""

TRUSTED = {"default": 0.78}
"""Confidence from which on a recording is enhanced, by model: so high that a twentieth of the development speech in
rooms is left alone (docs/results/detection.md). `live` tells speech from music less well, and has none."""

FADED = 0.1
"""Below that by so much a recording is left alone; in between it is blended."""

_FIRST_SECONDS = 64


class ConfidenceMeter:
    """Confidence of a signal that comes in blocks: what the speech decoder explains of the output.

    The mask that makes the output is guided by the speech that D_A decodes from the latent of the mixture. D_A has
    learned from clean speech alone, so of speech, clean or noisy, both are about the same; of music or a laughter they
    are not, nor where nobody speaks. The confidence of a second is 1 - |D_A - Y|² / |Y|², at least 0, of the compressed
    amplitudes D_A and Y of the output, over all bins and channels, that second and `NEIGHBOURS` on either side. Where
    the output is silent it is 1.

    Args:
        enhancer: The engine.
        sample_rate: Rate of the signal in Hz.
        channels: Number of channels.

    Raises:
        ModelError: The network has no such decoder.
    """

    def __init__(self, enhancer: "Enhancer", sample_rate: int, channels: int) -> None:
        self._model, self._stft = enhancer.model, enhancer.stft
        self._rate, self._channels = enhancer.model.metadata.sample_rate, channels
        self._to_model = Resampler(sample_rate, self._rate, channels)
        self._waiting = SampleQueue(channels)
        self._waiting.append(np.zeros((channels, self._stft.window - self._stft.hop), np.float32))
        self._past = self._model.initial_past(channels)
        self._frames = 0
        # Error and energy of every second.
        self._sums = np.zeros((2, _FIRST_SECONDS))

    def push(self, block: NDArray[np.floating], last: bool = False) -> None:
        """Take some samples.

        Args:
            block: Samples `(channels, n)`; n may be 0.
            last: No more samples will come.

        Raises:
            ModelError: The network fails.
        """
        self._waiting.append(self._to_model.push(usable(block), last))
        if last:
            self._waiting.append(np.zeros((self._channels, self._stft.window), np.float32))
        hop, window = self._stft.hop, self._stft.window
        while (ready := 1 + (len(self._waiting) - window) // hop) > 0:
            count = max(1, min(ready, FRAMES_AT_ONCE // self._channels))
            samples = self._waiting.waiting()[:, : window + (count - 1) * hop]
            decoded, output, self._past = self._model.compare(
                self._stft.spectra(self._stft.frames(samples)), self._past
            )
            self._waiting.take(count * hop)
            self._count(np.square(decoded - output).sum(axis=(0, 1)), np.square(output).sum(axis=(0, 1)))

    def _count(self, errors: Float32Array, energies: Float32Array) -> None:
        """Add those of the next frames to those of their seconds."""
        frames = self._frames + np.arange(errors.size)
        self._frames += errors.size
        seconds = frames * self._stft.hop // self._rate
        if seconds[-1] >= self._sums.shape[1]:
            self._sums = np.concatenate([self._sums, np.zeros((2, 2 * int(seconds[-1])))], axis=1)
        for row, values in zip(self._sums, (errors, energies), strict=True):
            np.add.at(row, seconds, values)

    @property
    def per_second(self) -> Float32Array:
        """Confidence of every second so far, 0 to 1, `(seconds,)`."""
        seconds = -(-self._frames * self._stft.hop // self._rate)
        total = np.concatenate([np.zeros((2, 1)), np.cumsum(self._sums[:, :seconds], axis=1)], axis=1)
        place = np.arange(seconds)
        first, end = np.maximum(place - NEIGHBOURS, 0), np.minimum(place + NEIGHBOURS + 1, seconds)
        return _explained(total[:, end] - total[:, first])

    @property
    def whole(self) -> float:
        """Confidence of all that came, 0 to 1."""
        return float(_explained(self._sums.sum(axis=1)))


class Caution:
    """Leaves a signal alone where a model is not sure, and fades between.

    Args:
        confidence: Of every second of the signal, `(seconds,)`.
        trusted: Confidence from which on it is enhanced: one of `TRUSTED`.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        removed: The output is what was removed: where the model is not sure, nothing is.
    """

    def __init__(
        self, confidence: Float32Array, trusted: float, sample_rate: int, channels: int, *, removed: bool = False
    ) -> None:
        self._weights = trust(confidence, trusted)
        self._rate = sample_rate
        self._removed = removed
        self._received = SampleQueue(channels)
        self._given = 0

    def mixed(self, received: NDArray[np.floating], enhanced: Float32Array) -> Float32Array:
        """Put the next enhanced samples together with what was received, by the confidence there.

        Args:
            received: The next samples of the recording, `(channels, n)`.
            enhanced: The next samples of the output, which may be behind, `(channels, m)`.

        Returns:
            `(channels, m)`.
        """
        self._received.append(usable(received))
        count = enhanced.shape[1]
        if not count:
            return enhanced
        dry = self._received.take(count)
        seconds = (self._given + np.arange(count)) / self._rate
        self._given += count
        weights = np.interp(seconds, np.arange(self._weights.size) + 0.5, self._weights).astype(np.float32)
        return weights * enhanced if self._removed else weights * enhanced + (1 - weights) * dry


def trust(confidence: Float32Array, trusted: float) -> Float32Array:
    """How much of the output is taken, by the confidence.

    Args:
        confidence: 0 to 1.
        trusted: Confidence from which on it is taken whole.

    Returns:
        Share of the output, 0 (the recording is left alone) to 1, of the shape of `confidence`.
    """
    return np.asarray(np.clip((confidence - trusted + FADED) / FADED, 0, 1), np.float32)


def trusted_confidence(model: Model) -> float:
    """Confidence from which on a model is trusted.

    Args:
        model: A bundled model, or one adapted from it; it is known by the name of its settings, so that others that
            were trained with these count as well.

    Returns:
        One of `TRUSTED`.

    Raises:
        ConfigError: It was not measured for this model.
    """
    try:
        return TRUSTED[model.metadata.name.removesuffix(ADAPTED_SUFFIX)]
    except KeyError:
        raise ConfigError(
            f"found the model {model.metadata.name!r}, for which no confidence is known from which on to trust it, "
            f"expected {' or '.join(TRUSTED)} or a model that is adapted from it: take that, or leave --safe out"
        ) from None


def _explained(sums: NDArray[np.float64]) -> Float32Array:
    """Confidence by sums of errors and energies `(2, ...)`."""
    errors, energies = sums
    # Where nothing comes out, nothing is unknown.
    share = np.divide(errors, energies, out=np.zeros_like(errors), where=energies > 0)
    return np.asarray(np.clip(1 - share, 0, 1), np.float32)
