"""What a process of its own does to adapt a model to a place; it knows nothing of HTTP."""

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sottovoce.errors import AudioError, DataError, ModelError, StorageError
from sottovoce.service.kinds import output_suffix
from sottovoce.service.work import (
    AdaptationState,
    CurvePoint,
    Progress,
    Result,
    TooLongError,
    Warnings,
    require_space,
)
from sottovoce.signal import audio

OUTPUT = "adapted"
"""Name of the folder, beside the recordings, in which the training goes on after a restart."""

_REPORT_SECONDS = 0.5
_BLOCK_FRAMES = 2**16
_STAGE = "joint"
_MAX_NAME_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class AdaptationOrder:
    """What is to be done.

    Attributes:
        recordings: Folder of noisy recordings of the place; the output is written beside it.
        names: What whoever sent them calls them, in the order of their files.
        checkpoint: Training checkpoint of the model to start from.
        place: What the place is called; the model file is named after it.
        steps: Steps of the training.
        seed: Seed of all draws.
        max_seconds: The most sound that is decoded, all channels and recordings together.
    """

    recordings: Path
    names: tuple[str, ...]
    checkpoint: Path
    place: str
    steps: int
    seed: int
    max_seconds: float


def adapt_to_place(_: object, order: AdaptationOrder, *, advance: Callable[[Progress], None]) -> Result:
    """Adapt a model as `sottovoce adapt` does; what an earlier call has begun goes on.

    Args:
        order: What is to be done.
        advance: Called now and then with how far it is.

    Returns:
        The result, whose notes say what was measured and why the model is taken.

    Raises:
        TooLongError: There is too much sound.
        AudioError: There is no recording among what was sent, or the disk takes no more.
        DataError: There is too little to learn from.
        ModelError: The checkpoint cannot be used.
    """
    report = _Report(order, advance)
    warnings = Warnings()
    logging.getLogger("sottovoce").addHandler(warnings)
    try:
        _examine(order, report)
        from sottovoce.training.adapt import adapt

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        from sottovoce.weights import DEFAULT_SPEECH

        adaptation = adapt(
            order.recordings,
            report.folder,
            checkpoint=order.checkpoint,
            speech=DEFAULT_SPEECH,
            steps=order.steps,
            seed=order.seed,
            command=f"sottovoce adapt --steps {order.steps} --seed {order.seed}",
            on_progress=report,
        )
    except (AudioError, DataError, ModelError) as error:
        raise type(error)(_in_words_of_the_sender(str(error), order)) from None
    except OSError as error:
        raise StorageError(f"the disk of the service failed ({error.strerror}): try again later") from error
    finally:
        logging.getLogger("sottovoce").removeHandler(warnings)
    target = order.recordings.parent / f"{_file_name(order.place)}.onnx"
    adaptation.model.replace(target)
    verdict = f"{'Adapted' if adaptation.adopted else 'Kept the old model'}: {adaptation.reason}."
    notes = [*warnings.sentences, *adaptation.place.sentences(), verdict]
    return Result(
        target,
        adaptation.place.seconds,
        tuple(_in_words_of_the_sender(note, order) for note in notes),
        replace(report.last(), adopted=adaptation.adopted),
    )


def _examine(order: AdaptationOrder, report: "_Report") -> None:
    """Count the seconds of sound while it is decoded, and give files without an ending that of what they hold."""
    for path in sorted(order.recordings.iterdir()):
        require_space(path.parent)
        try:
            recording = audio.probe(path)
        except AudioError:  # whoever adapts says so
            if not path.suffix:
                path.rename(path.with_suffix(".wav"))
            continue
        if not path.suffix:
            recording = audio.probe(path.rename(path.with_suffix(output_suffix(recording))))
        try:
            for block in audio.blocks(recording.path, _BLOCK_FRAMES):
                report.decoded_seconds += block.size / recording.sample_rate
                if report.decoded_seconds > order.max_seconds:
                    report.say()
                    raise TooLongError(
                        f"found more than {order.max_seconds / 60:g} minutes of sound, all recordings and channels "
                        "together, expected that at most: send fewer or shorter ones"
                    )
                report("examining the recordings", 0, 1)
        except TooLongError:
            raise
        except AudioError:  # here as well
            continue
    report.say()


class _Report:
    """Says how far an adaptation is, now and then.

    Args:
        order: What is done.
        advance: Called with how far it is.

    Attributes:
        folder: The folder of the training.
        state: How far it is.
        decoded_seconds: Sound that was decoded, all channels together.
    """

    def __init__(self, order: AdaptationOrder, advance: Callable[[Progress], None]) -> None:
        self.folder = order.recordings.parent / OUTPUT
        self.state = AdaptationState("starting", 0, order.steps)
        self._advance = advance
        self._first: tuple[float, float] | None = None
        self.decoded_seconds = 0.0
        self.say()

    def __call__(self, task: str, done: float, total: float, note: str = "") -> None:
        """Take the progress of a task."""
        now = time.monotonic()
        if task == self.state.task and now - self._said < _REPORT_SECONDS and done < total:
            return
        if task == f"{_STAGE} stage":
            self._first = self._first or (now, done)
            begun, first = self._first
            left = (now - begun) * (total - done) / (done - first) if done > first else None
            self.state = replace(self.state, task=task, step=int(done), seconds_left=left, curve=self._curve())
        else:
            self.state = replace(self.state, task=task, seconds_left=None)
        require_space(self.folder.parent)
        self.say()

    def say(self) -> None:
        """Say how far it is."""
        self._said = time.monotonic()
        self._advance(Progress(self.state.share, self.decoded_seconds, self.state))

    def last(self) -> AdaptationState:
        """Say what is known at the end."""
        curve = self._curve()
        # There may have been nothing to learn.
        return replace(self.state, task="done", step=self.state.steps if curve else 0, seconds_left=None, curve=curve)

    def _curve(self) -> tuple[CurvePoint, ...]:
        from sottovoce.training.log import read_table

        rows = read_table(self.folder / "losses.csv")
        return tuple(CurvePoint(int(row["step"]), float(row["total"])) for row in rows if row["stage"] == _STAGE)


def _in_words_of_the_sender(sentence: str, order: AdaptationOrder) -> str:
    """Take out where things lie, which is nobody else's business, and put the sender's names in."""
    sentence = sentence.replace(f" at {order.recordings}", "")
    for path, name in zip(sorted(order.recordings.iterdir()), order.names, strict=True):
        sentence = sentence.replace(str(path), name).replace(path.name, name)
    return sentence.replace(f"{order.recordings.parent}{os.sep}", "")


def _file_name(place: str) -> str:
    """What of a name may be that of a file anywhere."""
    return re.sub(r"[^A-Za-z0-9]+", "_", place).strip("_")[:_MAX_NAME_CHARACTERS] or "place"
