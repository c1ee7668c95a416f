"""An audio filter for the transports of Pipecat."""

from pathlib import Path
from typing import Unpack

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.options import EnhanceKeywords, EnhanceOptions
from sottovoce.extras import require
from sottovoce.integrations.pcm import PcmStream, loaded

require("pipecat", "sottovoce.integrations.pipecat")

from pipecat.audio.filters.base_audio_filter import BaseAudioFilter  # noqa: E402
from pipecat.frames.frames import FilterControlFrame, FilterEnableFrame  # noqa: E402


class SottovoceFilter(BaseAudioFilter):
    """Enhances what a transport receives, as its `audio_in_filter`; each transport needs a filter of its own.

    A `FilterEnableFrame` turns it off and on with a short fade; the latency stays. If the model fails, the error is
    logged and the recording goes on unchanged, since Pipecat's input ends with an exception of its filter.

    Args:
        model: An enhancer, which may serve any number of filters, or what `sottovoce.load` takes.
        channels: Number of channels, as in the transport's `audio_in_channels`.
        **options: The fields of `EnhanceOptions`.

    Raises:
        ModelError: The file is missing, foreign, cut or of another format version.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self, model: Enhancer | Path | str = "live", *, channels: int = 1, **options: Unpack[EnhanceKeywords]
    ) -> None:
        self._enhancer = loaded(model)
        self._channels = channels
        self._options = EnhanceOptions(**options)
        self._bypass = False
        self._stream: PcmStream | None = None
        self._latency_seconds = 0.0

    @property
    def latency_seconds(self) -> float:
        """By how much the output stays behind the input, in seconds; 0 until the transport has started."""
        return self._latency_seconds

    async def start(self, sample_rate: int) -> None:
        """Begin a signal.

        Args:
            sample_rate: Rate of the transport in Hz.

        Raises:
            ValueError: The rate or the number of channels is out of its range.
        """
        self._stream = PcmStream(self._enhancer, sample_rate, self._channels, self._options)
        self._stream.bypass = self._bypass
        self._latency_seconds = self._stream.latency / sample_rate

    async def stop(self) -> None:
        """End the signal; the last samples, as many as the latency, are dropped."""
        self._stream = None
        self._latency_seconds = 0.0

    async def process_frame(self, frame: FilterControlFrame) -> None:
        """Turn the filter on or off.

        Args:
            frame: A `FilterEnableFrame`; others have no effect.
        """
        if isinstance(frame, FilterEnableFrame):
            self._bypass = not frame.enable
            if self._stream is not None:
                self._stream.bypass = self._bypass

    async def filter(self, audio: bytes) -> bytes:
        """Enhance a block, within the event loop: see docs/voice_agents.md for the time it takes.

        Args:
            audio: 16-bit samples, channels interleaved; any number of them.

        Returns:
            As many samples; the same ones before `start` and after `stop`.

        Raises:
            ValueError: The block has not the same number of whole samples in every channel.
        """
        return audio if self._stream is None else self._stream.process(audio)
