"""What a user may ask of an enhancer."""

from dataclasses import dataclass
from typing import Literal, Optional, TypedDict, get_args

from sottovoce.errors import ConfigError

RoomChoice = Literal["natural", "keep", "dry"]
"""What of the room may be kept; `engine.metadata.ROOMS` has the state that says so."""

FOR_ASR_MIX = 0.6
"""The `mix` with which a recogniser made the fewest errors in development: benchmarks/results/recognition.md."""


@dataclass(frozen=True, kw_only=True)
class EnhanceOptions:
    """How much of the noise goes, and what stays beside the speech.

    Args:
        limit_db: Maximum attenuation at any time and frequency, in dB: 20 leaves a little of the room, and gives fewer
            artefacts; no limit if not given.
        mix: Share of the enhanced signal in the output, 0 (the input) to 1 (enhanced only).
        full_band: Keep what lies above the model's band (8 kHz), and lower the noise there; otherwise remove it.
        linked: Give all channels the same gains, from one network run: no source moves between them, and it is faster.
            Otherwise each channel is enhanced on its own.
        room: What of the room stays: its early reflections and a soft decay (natural), all of it (keep), or only the
            direct sound (dry). Models without this choice have natural alone.
        removed: Output what was removed (the input minus the enhanced signal) in place of the enhanced signal.

    Raises:
        ConfigError: A number is out of its range.
    """

    # tyro reads `X | None` with typeguard, which takes 45 ms to load: see cli.arguments.
    limit_db: Optional[float] = None
    mix: float = 1.0
    full_band: bool = True
    linked: bool = False
    room: RoomChoice = "natural"
    removed: bool = False

    def __post_init__(self) -> None:
        if self.limit_db is not None and not self.limit_db >= 0:
            raise ConfigError(f"found limit_db {self.limit_db}, expected the most attenuation allowed, 0 dB or more")
        if not 0 <= self.mix <= 1:
            raise ConfigError(f"found mix {self.mix}, expected a number from 0 (the input) to 1 (enhanced only)")
        if self.room not in get_args(RoomChoice):
            raise ConfigError(f"found room {self.room!r}, expected natural, keep or dry")


class EnhanceKeywords(TypedDict, total=False):
    """The fields of `EnhanceOptions` as keyword arguments, for type checkers: `enhance(..., limit_db=20)`."""

    limit_db: float | None
    mix: float
    full_band: bool
    linked: bool
    room: RoomChoice
    removed: bool
