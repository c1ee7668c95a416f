"""What a worker process does with one recording, and what it says of its work; it knows nothing of HTTP."""

import functools
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.files import enhance_file
from sottovoce.engine.model import Model
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import AudioError, ModelError, StorageError, printable
from sottovoce.service.kinds import output_suffix
from sottovoce.signal.audio import probe
from sottovoce.signal.output import OutputOptions

RESERVE_BYTES = 2**28
"""What stays free on the disk: a service that fills it would take others down."""


_MAX_NOTES, _MAX_NOTE_CHARACTERS = 16, 300


class TooLongError(AudioError):
    """A recording holds more sound than the service takes."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be done.

    Attributes:
        recording: The recording, in a folder of its own, which also takes the result.
        model: Name of the model, or the file of one that was adapted.
        options: How to enhance.
        output_options: What is kept beside the sound, and how small lossy files become.
        max_seconds: The most sound that is decoded, all channels together.
    """

    recording: Path
    model: str | Path
    options: EnhanceOptions
    output_options: OutputOptions
    max_seconds: float


@dataclass(frozen=True)
class CurvePoint:
    """A point of the training curve.

    Attributes:
        step: Step of the training.
        loss: Mean loss since the point before.
    """

    step: int
    loss: float


@dataclass(frozen=True)
class AdaptationState:
    """How far an adaptation is.

    Attributes:
        task: What is being done, such as "joint stage", which is the training.
        step: Steps that are done.
        steps: Steps in all.
        seconds_left: Estimated time until the last step; None while it is unknown.
        curve: The losses so far.
        adopted: Whether the result is the adapted model: otherwise it is the old one, and the notes say why; None
            until it is done.
    """

    task: str
    step: int
    steps: int
    seconds_left: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    adopted: bool | None = None

    @property
    def share(self) -> float:
        """Share of the steps that are done, 0 to 1."""
        return self.step / self.steps


@dataclass(frozen=True)
class Progress:
    """How far the work on recordings is.

    Attributes:
        share: Share that is done, 0 to 1.
        decoded_seconds: Sound that was decoded, all channels together.
        adaptation: The training, if a model is adapted.
    """

    share: float = 0.0
    decoded_seconds: float = 0.0
    adaptation: AdaptationState | None = None


@dataclass(frozen=True)
class Result:
    """What was done.

    Attributes:
        path: The result.
        seconds: Length of the recording.
        notes: What whoever sent the recording should know, such as tags for which there is no place.
        adaptation: The training, if the result is an adapted model.
    """

    path: Path
    seconds: float
    notes: tuple[str, ...] = ()
    adaptation: AdaptationState | None = None


def enhance_upload(enhancers: Mapping[str, Enhancer], order: Order, *, advance: Callable[[Progress], None]) -> Result:
    """Enhance a recording that somebody sent.

    Args:
        enhancers: The engines by name.
        order: What is to be done.
        advance: Called after every block with how far it is; the share is what the header makes of it.

    Returns:
        The result.

    Raises:
        UnknownFormatError: It is no recording.
        TooLongError: It is too long.
        StorageError: The disk takes no more.
        AudioError: It is damaged, or its kind of file has no room for it.
        ModelError: The network fails.
    """
    folder = order.recording.parent

    def without_place(sentence: object) -> str:
        # Where the recording lies is nobody else's business.
        return str(sentence).replace(f"{folder}{os.sep}", "")

    warnings = Warnings()
    logging.getLogger("sottovoce").addHandler(warnings)
    try:
        recording = probe(order.recording)
        taken_seconds = 0.0

        def count(seconds: float) -> None:
            nonlocal taken_seconds
            taken_seconds += seconds * recording.channels
            share = taken_seconds / recording.channels / recording.seconds
            advance(Progress(min(share, 1.0), taken_seconds))
            # Nothing that a header says is believed: only what was decoded counts.
            if taken_seconds > order.max_seconds:
                raise TooLongError(
                    f"found more than {order.max_seconds / 60:g} minutes of sound, all channels together, expected "
                    "that at most: cut the recording into parts"
                )
            require_space(folder)

        target = folder / f"{'removed' if order.options.removed else 'enhanced'}{output_suffix(recording)}"
        seconds = enhance_file(
            enhancers[order.model] if isinstance(order.model, str) else _load_adapted(order.model),
            recording,
            target,
            order.options,
            output_options=order.output_options,
            advance=count,
        )
    except (AudioError, ModelError) as error:
        raise type(error)(without_place(error)) from None
    finally:
        logging.getLogger("sottovoce").removeHandler(warnings)
    return Result(target, seconds, tuple(map(without_place, warnings.sentences)))


class Warnings(logging.Handler):
    """Keeps what the engine warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        if len(self.sentences) < _MAX_NOTES:
            self.sentences.append(printable(record.getMessage())[:_MAX_NOTE_CHARACTERS])


def load_adapted(path: Path) -> Enhancer:
    """Load a model that was adapted here.

    Args:
        path: Its file.

    Returns:
        The engine.

    Raises:
        ModelError: It was deleted meanwhile.
    """
    try:
        return Enhancer(Model.load(path, origin="the adapted model"))
    except ModelError:
        raise ModelError("found no adapted model of this name any more: it was deleted, or has expired") from None


# A client that enhances several recordings waits for the network once.
_load_adapted = functools.lru_cache(maxsize=2)(load_adapted)


def require_space(folder: Path) -> None:
    """Refuse to write more to a disk that is nearly full.

    Args:
        folder: Where it is to be written.

    Raises:
        StorageError: Less than the reserve is free.
    """
    if shutil.disk_usage(folder).free < RESERVE_BYTES:
        raise StorageError("the disk of the service is nearly full: try again later")


def warm_up(enhancers: Mapping[str, Enhancer], *, advance: Callable[[float], None]) -> int:
    """Load everything that the first recording would wait for.

    Args:
        enhancers: The engines by name.
        advance: Not called.

    Returns:
        Number of the process.
    """
    import soundfile  # noqa: F401

    return os.getpid()
