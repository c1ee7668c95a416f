"""What a model file says of its network: settings as JSON, whose every value has a type and a range."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sottovoce.signal.stft import MultiResolutionSTFT

FORMAT_VERSION = 2

_MAX_JSON_CHARACTERS = 2**20
_MAX_JSON_DEPTH = 16
# Together 64 MiB of state for each channel of a recording.
_MAX_PAST_VALUES = 2**24
_ROOM_SHAPE = (2, 1)
# What messages quote of a value.
_MAX_QUOTED = 80


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:  # True is an int as well
            raise ValueError(f"{_found(value)}, expected a whole number from {low} to {high}")
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 10_000:
        raise ValueError(f"{_found(value)}, expected text of 10,000 characters at most")
    return value


def _several(item: Callable[[object], Any], low: int, high: int) -> Callable[[object], tuple[Any, ...]]:
    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not low <= len(value) <= high:
            count = str(low) if low == high else f"{low} to {high}"
            raise ValueError(f"{_found(value)}, expected a list of {count}")
        return tuple(map(item, value))

    return check


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_found(value)}, expected a mapping")
    return value


def _found(value: object) -> str:
    text = repr(value)
    return f"found {text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + '...'}"


ROOMS: dict[str, tuple[float, float]] = {"natural": (0.0, 0.0), "keep": (1.0, 0.0), "dry": (0.0, 1.0)}
"""What may be kept of the room, and the state that says so: early sound and a soft decay, all, or the direct sound."""

_CHECKS: dict[str, Callable[[object], Any]] = {
    "name": _text,
    "sample_rate": _whole(8000, 48000),
    "windows": _several(_whole(2, 2**14), 1, 8),
    "synthesis_window": _whole(2, 2**14),
    "hop": _whole(1, 2**14),
    "delay_frames": _whole(0, 1000),
    "past_shapes": _several(_several(_whole(1, 2**20), 2, 2), 0, 1000),
    "parameters": _whole(0, 2**40),
    "multiply_adds_per_second": _whole(0, 2**60),
    "licence": _text,
    "training_data": _several(_text, 0, 1000),
    "command": _text,
    "settings": _mapping,
    "format_version": _whole(FORMAT_VERSION, FORMAT_VERSION),
}
"""Gives the value of each key of the metadata from its JSON, or raises a ValueError."""

_FRAMES_AND_STATES = ("sample_rate", "windows", "synthesis_window", "hop", "delay_frames", "past_shapes", "rooms")


@dataclass(frozen=True)
class ModelMetadata:
    """What the engine, and a reader, must know about an exported network.

    A dataclass with a table of checks: a validation library would cost a tenth of a second at every start.

    Attributes:
        name: Name of the settings.
        sample_rate: Rate at which the network works, in Hz, 8000 to 48000.
        windows: Window lengths in samples, longest first.
        synthesis_window: Length of the synthesis window in samples.
        hop: Hop in samples.
        delay_frames: Frames by which the output lags behind the input.
        past_shapes: Channels and frames of every layer's past.
        parameters: Number of trained values in the exported network.
        multiply_adds_per_second: Multiply-adds of the network per second of audio.
        licence: Licence of the weights.
        training_data: The corpora of the training, one sentence each.
        command: The command which trained the network.
        settings: The complete settings of the training, seed included.
        format_version: Version of this format.
    """

    name: str
    sample_rate: int
    windows: tuple[int, ...]
    synthesis_window: int
    hop: int
    delay_frames: int
    past_shapes: tuple[tuple[int, int], ...]
    parameters: int
    multiply_adds_per_second: int
    licence: str
    training_data: tuple[str, ...]
    command: str
    settings: dict[str, Any]
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read and check.

        Args:
            text: What `to_json` wrote.

        Returns:
            The metadata.

        Raises:
            ValueError: The text is no JSON, too long or too deep, or of another format version; a key is missing or
                unknown; or a value has another type or is out of its range.
        """
        content = parse_json(text)
        found = content.get("format_version") if isinstance(content, dict) else None
        if not isinstance(content, dict) or found != FORMAT_VERSION:
            raise ValueError(f"format version: {_found(found)}, expected {FORMAT_VERSION}")
        names = {field.name for field in fields(cls)}
        if content.keys() != names:
            different = sorted(content.keys() ^ names)
            raise ValueError(f"found missing or unknown keys: {', '.join(different)[:_MAX_QUOTED]}")
        for key, check in _CHECKS.items():
            try:
                content[key] = check(content[key])
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        metadata = cls(**content)
        if sum(channels * frames for channels, frames in metadata.past_shapes) > _MAX_PAST_VALUES:
            raise ValueError(f"past_shapes: found more than {_MAX_PAST_VALUES:,} values of state")
        # Refuses windows and hops that do not go together.
        MultiResolutionSTFT(metadata.windows, metadata.hop, metadata.synthesis_window)
        return metadata

    def to_json(self) -> str:
        """Write as JSON."""
        return json.dumps(asdict(self))

    @property
    def rooms(self) -> tuple[str, ...]:
        """What of the room may be kept, of `ROOMS`; where there is a choice, the network's first state says it."""
        model = self.settings.get("model")
        chosen = isinstance(model, dict) and model.get("room_choice") is True
        return tuple(ROOMS) if chosen and self.past_shapes[:1] == (_ROOM_SHAPE,) else ("natural",)

    def is_interchangeable_with(self, other: "ModelMetadata") -> bool:
        """Say whether another network has the same frames and states, so that it can go on where this one is."""
        return all(getattr(self, name) == getattr(other, name) for name in _FRAMES_AND_STATES)

    @property
    def latency_seconds(self) -> float:
        """Algorithmic latency: the synthesis window and the network's delay."""
        return (self.synthesis_window + self.delay_frames * self.hop) / self.sample_rate


def parse_json(text: str) -> object:
    """Read JSON from anybody.

    Args:
        text: JSON.

    Returns:
        Its value, of bounded size and depth.

    Raises:
        ValueError: The text is no JSON, too long or too deep, or holds numbers that JSON does not have.
    """
    if len(text) > _MAX_JSON_CHARACTERS:
        raise ValueError(f"found {len(text):,} characters of JSON, expected {_MAX_JSON_CHARACTERS:,} at most")

    def refused(name: str) -> object:
        raise ValueError(f"found {name}, which is no number of JSON")

    try:
        content: object = json.loads(text, parse_constant=refused)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [content]
    for _ in range(_MAX_JSON_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
    if level:
        raise ValueError(_TOO_DEEP)
    return content


_TOO_DEEP = f"found JSON that is nested more than {_MAX_JSON_DEPTH} levels deep"


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
