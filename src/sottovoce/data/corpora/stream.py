"""Recordings that a manifest lists, of which a few are in memory at a time.

Every recording is visited once an epoch. The visits of an epoch have an order that depends on the seed and the epoch
alone, so the recordings that a batch is drawn from are a function of its number: nothing has to be remembered to go on
with an interrupted training.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.archive.manifest import Item
from sottovoce.archive.manifest import Manifest as Listing
from sottovoce.archive.sources import SHARD_SUFFIXES, Sources
from sottovoce.data.corpora.harvest import NoiseStretch, noise_only
from sottovoce.data.corpora.manifest import Manifest, Recording, probe_drawable
from sottovoce.data.corpora.skipped import Skipped
from sottovoce.errors import AudioError, DataError, MissingExtraError, StorageError
from sottovoce.signal import audio, levels

Float32Array = NDArray[np.float32]

MAX_SAMPLES = 2**19
"""Samples of a recording that are in memory at a time: 2 MiB, 33 s at 16 kHz."""

# Parts of a manifest whose items are shuffled together. A listing has a speaker's utterances in a row, so the items of
# a single part would be those of few speakers.
_PARTS_TOGETHER = 16
# An epoch begins in such a group while another reader is still at the end of the one before.
_GROUPS_KEPT = 2
# So far, at least, a reader looks ahead of windows of which nothing can be used: in a short manifest, what can be used
# may be the other readers' for some epochs.
_TURNS_AHEAD = 64
# What random numbers are drawn for.
_PARTS, _ITEMS, _EXCERPT = range(3)


@dataclass(frozen=True)
class Excerpt(Recording):
    """A stretch of a recording, in memory.

    Attributes:
        samples: Mono, `(1, frames)`, full scale ±1, at the recording's own rate.
    """

    samples: Float32Array = field(compare=False, repr=False)

    def read(self, start: int = 0, frames: int | None = None) -> tuple[Float32Array, int]:
        """Give the excerpt, or a part of it."""
        return self.samples[:, start : None if frames is None else start + frames], self.sample_rate


class Window(NamedTuple):
    """What one batch is drawn from.

    Attributes:
        recordings: Recordings.
        stretches: Noise-only stretches of these; none of clean speech.
    """

    recordings: Manifest
    stretches: tuple[NoiseStretch, ...] = ()


def group_of(name: str) -> str:
    """Speaker or session of a recording of a manifest.

    Args:
        name: The item's id.

    Returns:
        The first folder of the id, behind the shard where the recording lies in one; without folders, its own name.
    """
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..")] or [name]
    shards = [place for place, part in enumerate(parts[:-1]) if PurePosixPath(part).suffix.lower() in SHARD_SUFFIXES]
    below = parts[shards[-1] + 1 :] if shards else parts
    return below[0] if len(below) > 1 else PurePosixPath(below[0]).stem


def read_excerpt(item: Item, sources: Sources, rng: np.random.Generator) -> Excerpt:
    """Read a stretch of a recording from a random place, no longer than `MAX_SAMPLES`.

    Args:
        item: The recording.
        sources: Gives its file.
        rng: Source of the place.

    Returns:
        The stretch.

    Raises:
        AudioError: The recording cannot be read, is too short, or silent there.
        StorageError: This machine has no room for a copy of it.
        MissingExtraError: What reaches it is not installed.
    """
    with sources.local_file(item) as path:
        info = probe_drawable(path)
        frames = min(info.frames, MAX_SAMPLES)
        start = int(rng.integers(info.frames - frames + 1))
        waveform, rate = audio.read(path, start=start, frames=frames)
    # All channels count, as for a whole recording.
    level_db = float(levels.to_db(np.sqrt(np.square(waveform, dtype=np.float64).mean())))
    if level_db <= levels.SILENCE_DB:
        raise AudioError(f"{item.uri} is silent from {start / rate:.1f} s on, for {frames / rate:.1f} s: leave it out")
    mono = waveform.mean(axis=0, keepdims=True)
    return Excerpt(Path(item.uri), group_of(item.id), rate, 1, mono.shape[1], level_db, mono)


class RecordingStream:
    """Recordings of a manifest in the order of their visits.

    The visits are dealt out to readers: batch b is drawn from the window of reader b mod `readers`, which moves on by
    one recording with each of its batches. Who draws every K-th batch, where K divides `readers`, reads each
    recording once an epoch, and the others read none of his.

    Args:
        listing: The manifest.
        seed: Of the order, and of the places in recordings.
        readers: Readers among which the visits are dealt out.
        recordings: Recordings of a window.
        takes: Says whether a speaker or session belongs to what is drawn from.
        has_noise: Whether to look for noise-only stretches.
        skipped: Where recordings are named that cannot be used.
    """

    def __init__(
        self,
        listing: Listing,
        *,
        seed: Sequence[int],
        readers: int,
        recordings: int,
        takes: Callable[[str], bool],
        has_noise: bool,
        skipped: Skipped,
    ) -> None:
        self.listing = listing
        self._seed = tuple(seed)
        self._readers = readers
        self._recordings = recordings
        self._takes = takes
        self._has_noise = has_noise
        self._skipped = skipped
        self._windows: dict[int, dict[int, Window | None]] = {}
        self._orders: dict[int, tuple[list[NDArray[np.int64]], list[int]]] = {}
        self._groups: OrderedDict[tuple[int, int], list[Item | None]] = OrderedDict()

    def window(self, number: int) -> Window:
        """Read what a batch is drawn from, but for what the batch before it in its reader has left in memory.

        Args:
            number: Number of the batch, from 0.

        Returns:
            The same recordings for the same number, one at least.

        Raises:
            DataError: No recording of an epoch can be used.
            StorageError: This machine has no room for copies of recordings.
        """
        turn, reader = divmod(number, self._readers)
        before = self._windows.pop(reader, {})
        visits = {
            turn + ahead: before[turn + ahead] if turn + ahead in before else self._visited(turn + ahead, reader)
            for ahead in range(self._recordings)
        }
        self._windows[reader] = visits
        # Where none of a window can be used, the next one stands in for it.
        further = count(turn + self._recordings)
        while not any(visits.values()):
            visit = next(further)
            if (visit - turn) * self._readers > self.listing.items and visit - turn > _TURNS_AHEAD:
                raise DataError(
                    f"found nothing that can be used in {self.listing.store.address()}: {self._skipped.path} says why"
                )
            visits[visit] = self._visited(visit, reader)
        found = [window for window in visits.values() if window is not None]
        return Window(
            Manifest(tuple(recording for window in found for recording in window.recordings.recordings)),
            tuple(stretch for window in found for stretch in window.stretches),
        )

    def _visited(self, turn: int, reader: int) -> Window | None:
        """The recording of a reader's turn; None if it is held back, or cannot be used."""
        visit = turn * self._readers + reader
        item = self._item(visit)
        if item is None or not self._takes(group_of(item.id)):
            return None
        return self.read(item, np.random.default_rng([*self._seed, _EXCERPT, visit]))

    def read(self, item: Item, rng: np.random.Generator) -> Window | None:
        """Read an excerpt of a recording and find the noise in it.

        Args:
            item: One of the manifest's.
            rng: Source of the place of the excerpt.

        Returns:
            The excerpt; None if the recording cannot be used, which is noted.

        Raises:
            StorageError: This machine has no room for copies of recordings.
        """
        try:
            with Sources() as sources:
                excerpt = read_excerpt(item, sources, rng)
            stretches = tuple(noise_only(excerpt)) if self._has_noise else ()
        except StorageError:
            raise  # no recording is at fault
        except (AudioError, MissingExtraError) as error:
            self._skipped.note(item.id, item.uri, str(error))
        except Exception as error:  # one recording stops no training, whatever its decoder raises
            self._skipped.note(item.id, item.uri, f"{item.uri}: {error}")
        else:
            return Window(Manifest((excerpt,)), stretches)
        return None

    def _item(self, visit: int) -> Item | None:
        epoch, position = divmod(visit, self.listing.items)
        if epoch not in self._orders:
            self._orders = {epoch: self._order(epoch)}
        groups, ends = self._orders[epoch]
        number = bisect_right(ends, position)
        items = self._shuffled(epoch, number, groups[number])
        return items[position - (ends[number - 1] if number else 0)]

    def _order(self, epoch: int) -> tuple[list[NDArray[np.int64]], list[int]]:
        """Numbers of the parts that are shuffled together, and the position behind each of these groups."""
        parts = np.random.default_rng([*self._seed, _PARTS, epoch]).permutation(len(self.listing.parts))
        groups = [parts[first : first + _PARTS_TOGETHER] for first in range(0, len(parts), _PARTS_TOGETHER)]
        return groups, list(accumulate(sum(self.listing.parts[part].items for part in group) for group in groups))

    def _shuffled(self, epoch: int, number: int, parts: NDArray[np.int64]) -> list[Item | None]:
        """Items of some parts in the order of an epoch."""
        key = (epoch, number)
        if key not in self._groups:
            items = [item for part in parts for item in self._read_part(int(part))]
            order = np.random.default_rng([*self._seed, _ITEMS, epoch, number]).permutation(len(items))
            self._groups[key] = [items[place] for place in order]
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]

    def _read_part(self, number: int) -> Sequence[Item | None]:
        """Items of a part; one that is cut or was edited keeps its place in the order, and nothing is taken of it."""
        part = self.listing.parts[number]
        try:
            return self.listing.read(part)
        except DataError as error:
            self._skipped.note(part.name, self.listing.store.address(part.name), str(error))
            return [None] * part.items
