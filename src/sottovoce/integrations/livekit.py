"""A frame processor for the audio streams of LiveKit."""

from pathlib import Path
from typing import Unpack

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.options import EnhanceKeywords, EnhanceOptions
from sottovoce.extras import require
from sottovoce.integrations.pcm import PcmStream, loaded

require("livekit", "sottovoce.integrations.livekit")

from livekit.rtc import AudioFrame, FrameProcessor  # noqa: E402


class SottovoceProcessor(FrameProcessor[AudioFrame]):
    """Enhances what an `AudioStream` receives, as its `noise_cancellation`; each stream needs one of its own.

    LiveKit passes frames by while the processor is not enabled, without latency. Where it is enabled again, where the
    track leaves its room, and where frames of another rate or number of channels come, a new signal begins, with
    silence as long as the latency. If the model fails, the error is logged and the recording goes on unchanged.

    Args:
        model: An enhancer, which may serve any number of processors, or what `sottovoce.load` takes.
        **options: The fields of `EnhanceOptions`.

    Raises:
        ModelError: The file is missing, foreign, cut or of another format version.
        ConfigError: An option is out of its range.
    """

    def __init__(self, model: Enhancer | Path | str = "live", **options: Unpack[EnhanceKeywords]) -> None:
        self._enhancer = loaded(model)
        self._options = EnhanceOptions(**options)
        self._enabled = True
        self._format = (0, 0)
        self._stream: PcmStream | None = None

    @property
    def enabled(self) -> bool:
        """Whether frames are enhanced."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value and not self._enabled:
            self._stream = None  # it knows nothing of the frames that went by
        self._enabled = value

    @property
    def latency_seconds(self) -> float:
        """By how much the output stays behind the input, in seconds; 0 until the first frame."""
        return 0.0 if self._stream is None else self._stream.latency / self._format[0]

    def _process(self, frame: AudioFrame) -> AudioFrame:
        rate, channels, count = frame.sample_rate, frame.num_channels, frame.samples_per_channel
        if self._stream is None or self._format != (rate, channels):
            self._stream = PcmStream(self._enhancer, rate, channels, self._options)
            self._format = (rate, channels)
        # The memory of a frame may be larger than its sound.
        data = self._stream.process(frame.data.cast("B")[: 2 * channels * count])
        return AudioFrame(data, rate, channels, count, userdata=frame.userdata)

    def _on_stream_info_cleared(self) -> None:
        self._stream = None

    def _close(self) -> None:
        self._stream = None
