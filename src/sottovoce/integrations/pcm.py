"""16-bit samples through a stream with constant latency: as many come out as go in."""

import logging
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import ModelError
from sottovoce.signal.pcm import PcmFormat
from sottovoce.signal.queue import SampleQueue

log = logging.getLogger(__name__)


def loaded(model: Enhancer | Path | str) -> Enhancer:
    """Give an enhancer for what names one.

    Args:
        model: An enhancer, which is returned, or what `sottovoce.load` takes.

    Returns:
        An enhancer.

    Raises:
        ModelError: The file is missing, foreign, cut or of another format version.
    """
    return model if isinstance(model, Enhancer) else Enhancer.from_pretrained(model)


class PcmStream:
    """A live stream of 16-bit samples, whose output begins with silence so that no later block is short.

    If the model fails, the error is logged once and the recording goes on unchanged with the same latency: a call
    with noise is better than none.

    Args:
        enhancer: The engine.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        options: How to enhance.

    Attributes:
        latency: Samples of silence at the start, by which the output stays behind the input.
        bypass: Give back the recording unchanged with the same latency; may be set at any time. The next block fades
            from one to the other. The model keeps running, so it needs no time to adjust afterwards.

    Raises:
        ValueError: The rate or the number of channels is out of its range.
    """

    def __init__(self, enhancer: Enhancer, sample_rate: int, channels: int, options: EnhanceOptions) -> None:
        self._stream = enhancer.stream(sample_rate, channels, live=True, **vars(options))
        # No sample waits longer than this, however the frames of model and framework meet.
        self.latency = math.ceil(self._stream.latency_seconds * sample_rate)
        self.bypass = False
        self._format = PcmFormat("s16le", channels)
        self._failed = False
        self._dry = SampleQueue(channels)
        self._enhanced = SampleQueue(channels)
        silence = np.zeros((channels, self.latency), np.float32)
        self._dry.append(silence)
        self._enhanced.append(silence)
        self._dry_share = 0.0

    def process(self, data: bytes | memoryview) -> bytes:
        """Take a block and give one of the same length.

        Args:
            data: 16-bit samples, channels interleaved; any number of them.

        Returns:
            As many samples of the same kind.

        Raises:
            ValueError: The block ends within a sample, or has not the same number of samples in every channel.
        """
        block = self._format.decode(data)
        self._dry.append(block)
        self._enhance(block)
        return self._format.encode(self._mixed(block.shape[1]))

    def _enhance(self, block: NDArray[np.float32]) -> None:
        if self._failed:
            return
        try:
            self._enhanced.append(self._stream.push(block))
        except ModelError:
            self._failed = True
            log.exception("the model failed: the recording goes on without enhancement")

    def _mixed(self, count: int) -> NDArray[np.float32]:
        dry = self._dry.take(count)
        if self._failed:
            return dry
        enhanced = self._enhanced.take(count)
        before, self._dry_share = self._dry_share, float(self.bypass)
        if before == self._dry_share:
            return dry if self.bypass else enhanced
        fade = np.linspace(before, self._dry_share, count, dtype=np.float32)
        return enhanced + fade * (dry - enhanced)
