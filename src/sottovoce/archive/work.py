"""What a process does with some recordings of an archive: each becomes a row, whatever happens."""

import errno
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sottovoce.archive.listing import sha256_of
from sottovoce.archive.manifest import Item
from sottovoce.archive.results import AUDIO_NAME, Row, Run
from sottovoce.archive.scratch import scratch_takes
from sottovoce.archive.sources import Sources, lies_alone
from sottovoce.archive.stores import Store
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.files import Advance, enhance_file
from sottovoce.errors import AudioError, ChangedError, MissingExtraError, SottovoceError, StorageError
from sottovoce.metrics.dnsmos import DnsmosMeter
from sottovoce.paths import is_file
from sottovoce.signal.audio import AudioInfo, Float32Array, blocks, probe
from sottovoce.signal.levels import SpeechActivity, to_db
from sottovoce.signal.limits import block_frames

# A sample as large as this is at full scale, whatever the number of bits.
_FULL_SCALE = 0.99
# What a network drive says today, and not tomorrow.
_PASSING = {
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EBUSY", "ECONNABORTED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EINTR", "EIO", "ENETDOWN"),
        *("ENETRESET", "ENETUNREACH", "ENOTCONN", "EREMOTEIO", "ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
}


@dataclass(frozen=True)
class Task:
    """How the recordings of a run are gone through.

    Attributes:
        run: Where the results go, and how to enhance.
        attempts: How often a recording is tried, 1 or more, before it counts as failed.
        pause_seconds: How long to wait before the second attempt; the wait doubles with each.
        dnsmos: Rate the enhanced versions.
        folder: Where enhanced versions are written, below the folder of the run.
    """

    run: Run
    attempts: int = 3
    pause_seconds: float = 1.0
    dnsmos: bool = False
    folder: str = AUDIO_NAME

    def output_of(self, item: Item) -> str:
        """Where the enhanced version of a recording lies, below the folder of the run."""
        return f"{self.folder}/{item.output_name}"


def enhance_items(enhancer: Enhancer, items: Sequence[Item], task: Task, *, advance: Advance) -> list[Row]:
    """Enhance some recordings of an archive.

    An enhanced version that is there is kept: its name says of what and with what it was made, and files are whole or
    absent.

    Args:
        enhancer: The engine.
        items: The recordings.
        task: Where to write, and how often to try.
        advance: Called after every block with its length in seconds.

    Returns:
        What became of each, in their order.

    Raises:
        StorageError: The output takes nothing, or this machine has no room for copies: no recording's own fault, so
            that nothing is said of this one.
        MissingExtraError: What reaches a recording is not installed, likewise.
    """
    with Sources() as sources:
        return [_enhance_item(enhancer, item, task, sources, advance) for item in items]


def failed(item: Item, error: Exception, attempts: int, work_seconds: float | None = None) -> Row:
    """Make the row of a recording that has no enhanced version.

    Args:
        item: The recording.
        error: Why.
        attempts: How often it was tried.
        work_seconds: How long the last attempt took, if its process lived so long.

    Returns:
        The row.
    """
    message = str(error) if isinstance(error, AudioError) else f"{item.uri}: {error}"
    return Row(
        id=item.id,
        uri=item.uri,
        status="failed",
        seconds=item.seconds,
        error=type(error).__name__.removesuffix("Error"),
        message=message,
        attempts=attempts,
        work_seconds=work_seconds,
    )


def _enhance_item(enhancer: Enhancer, item: Item, task: Task, sources: Sources, advance: Advance) -> Row:
    for attempt in range(1, task.attempts + 1):
        begin = time.perf_counter()
        done = _Done(advance)
        try:
            with sources.local_file(item) as source:
                row = _enhance(enhancer, item, source, task, done)
        except (BrokenPipeError, MissingExtraError):
            raise  # nobody waits for the answer any more, or no recording is at fault
        except Exception as error:  # one recording stops no archive, whatever its decoder raises
            if attempt < task.attempts and _may_pass(error, item):
                done.reach(0.0)
                time.sleep(task.pause_seconds * 2 ** (attempt - 1))
                continue
            if isinstance(error, StorageError) and not _is_room(task, item):
                raise
            row = failed(item, error, attempt)
        break
    done.reach(item.seconds or 0.0)
    return replace(row, attempts=attempt, work_seconds=round(time.perf_counter() - begin, 3))


class _Done:
    """How much of a recording was reported as done."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._seconds = 0.0

    def __call__(self, seconds: float) -> None:
        self._seconds += seconds
        self._advance(seconds)

    def reach(self, seconds: float) -> None:
        """Report more or less, so that this much is done."""
        self(seconds - self._seconds)


def _enhance(enhancer: Enhancer, item: Item, source: Path, task: Task, advance: Advance) -> Row:
    if is_file(source):  # otherwise there is something better to say of it
        _refuse_changed(item, source)
    recording = probe(source)
    store, output = task.run.store, task.output_of(item)
    meter = _measured_before(recording, store, output, task, advance)
    if meter is None:
        meter = _Meter(recording, task.dnsmos)
        store.delete([output])  # if it is there, it is damaged
        try:
            with store.target(output) as target:
                enhance_file(
                    enhancer,
                    recording,
                    target,
                    task.run.options,
                    output_options=task.run.output_options,
                    advance=advance,
                    watch=meter.push,
                )
        except AudioError:
            # Another process may have been faster: its file is the same.
            advance(-meter.seconds)
            earlier = _measured_before(recording, store, output, task, advance)
            if earlier is None:
                raise
            meter = earlier
    return Row(
        id=item.id,
        uri=item.uri,
        status="enhanced",
        output=output,
        seconds=round(meter.seconds, 6),
        input_db=round(meter.input_db, 1),
        output_db=round(meter.output_db, 1),
        clipped=round(meter.clipped, 6),
        speech=round(meter.speech, 2),
        **meter.ratings(),
    )


def _measured_before(recording: AudioInfo, store: Store, output: str, task: Task, advance: Advance) -> "_Meter | None":
    """Measure a recording and the enhanced version that an earlier attempt finished; None if that is not whole."""
    try:
        if store.size(output) is None:
            return None
    except OSError as error:
        raise StorageError(
            f"cannot read {store.address(output)} ({error.strerror or error}): see whether you may read there, or name "
            "another output"
        ) from error
    with Sources() as sources, sources.local_file(Item(output, store.uri(output))) as target:
        if not is_file(target) or _seconds_or_none(target) is None:
            return None
        meter = _Meter(recording, task.dnsmos)
        length = block_frames(recording.sample_rate, recording.channels)
        for block in blocks(recording.path, length):
            meter.push(block, block[:, :0])
            advance(block.shape[1] / recording.sample_rate)
        for block in blocks(target, length):
            meter.push(block[:, :0], block)
        return meter


def _refuse_changed(item: Item, source: Path) -> None:
    size = source.stat().st_size
    if item.bytes not in (None, size):
        raise ChangedError(
            f"{source} has {size} bytes, and had {item.bytes} when it was listed: make the manifest again, in which it "
            "is another recording"
        )
    if item.hash is not None and sha256_of(source) != item.hash:
        raise ChangedError(
            f"{source} has another SHA-256 than when it was listed: make the manifest again, in which it is another "
            "recording"
        )


class _Meter:
    """What is measured of a recording and of its enhanced version while they pass."""

    def __init__(self, recording: AudioInfo, dnsmos: bool) -> None:
        self._rate = recording.sample_rate
        self._channels = recording.channels
        self._input_energy = self._output_energy = 0.0
        self._input_values = self._output_values = self._clipped = 0
        self._activity = SpeechActivity(recording.sample_rate)
        self._dnsmos = DnsmosMeter(recording.sample_rate) if dnsmos else None

    def push(self, before: Float32Array, after: Float32Array) -> None:
        self._input_energy += float(np.square(before, dtype=np.float64).sum())
        self._input_values += before.size
        self._clipped += int(np.count_nonzero(np.abs(before) >= _FULL_SCALE))
        self._output_energy += float(np.square(after, dtype=np.float64).sum())
        self._output_values += after.size
        self._activity.push(after)
        if self._dnsmos is not None:
            self._dnsmos.push(after)

    def ratings(self) -> dict[str, Any]:
        """What DNSMOS says, at the end; nothing of silence, and if it was not asked for."""
        if self._dnsmos is None:
            return {}
        found = self._dnsmos.result()._asdict()
        return {f"dnsmos_{name}": round(value, 3) for name, value in found.items() if not math.isnan(value)}

    @property
    def seconds(self) -> float:
        return self._input_values / (self._channels * self._rate)

    @property
    def input_db(self) -> float:
        return float(to_db(np.sqrt(self._input_energy / max(1, self._input_values))))

    @property
    def output_db(self) -> float:
        return float(to_db(np.sqrt(self._output_energy / max(1, self._output_values))))

    @property
    def clipped(self) -> float:
        return self._clipped / max(1, self._input_values)

    @property
    def speech(self) -> float:
        return self._activity.share


def _seconds_or_none(path: Path) -> float | None:
    try:
        return probe(path).seconds
    except AudioError:
        return None


def _may_pass(error: Exception, item: Item) -> bool:
    """Say whether another attempt may end better."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(error, SottovoceError) and not lies_alone(item.uri):
        return True  # each store has errors of its own
    return isinstance(error, StorageError) or (
        isinstance(cause, OSError) and (cause.errno in _PASSING or isinstance(cause, TimeoutError | ConnectionError))
    )


def _is_room(task: Task, item: Item) -> bool:
    """Say whether there is room for files, here and in the output, and leave to write them: then it was the file's."""
    size = item.bytes or 0
    return task.run.store.takes(size) and (lies_alone(item.uri) or scratch_takes(size))
