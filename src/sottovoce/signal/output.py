"""What a user may ask of the files that are written."""

from dataclasses import dataclass
from typing import Optional

from sottovoce.errors import ConfigError

_MAX_BITRATE_KBPS = 10_000  # more than any lossy recording takes


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written beside the sound, and how small a lossy file becomes.

    Args:
        metadata: Keep tags, covers, chapters, markers and time references.
        quality: Quality of an MP3, Ogg Vorbis or Opus, 0 (the smallest file) to 1; that of the recording if not
            given.
        bitrate: Bit rate of an MP3, Ogg Vorbis or Opus in kbit/s; that of the recording if not given.

    Raises:
        ConfigError: A number is out of its range, or both are given.
    """

    metadata: bool = True
    # tyro reads `X | None` with typeguard, which takes 45 ms to load: see cli.arguments.
    quality: Optional[float] = None
    bitrate: Optional[float] = None

    def __post_init__(self) -> None:
        if self.quality is not None and self.bitrate is not None:
            raise ConfigError("found both quality and bitrate, expected one: either sets the size of the file")
        if self.quality is not None and not 0 <= self.quality <= 1:
            raise ConfigError(f"found quality {self.quality}, expected a number from 0 (the smallest file) to 1")
        if self.bitrate is not None and not 1 <= self.bitrate <= _MAX_BITRATE_KBPS:
            raise ConfigError(
                f"found bitrate {self.bitrate}, expected kbit/s from 1 to {_MAX_BITRATE_KBPS}, such as 128"
            )
