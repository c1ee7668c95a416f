"""Manifests and shards in the place of folders: opened, and divided into what is trained on and what is held out."""

import hashlib
import heapq
import json
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.archive.listing import make_manifest
from sottovoce.archive.manifest import INDEX_NAME, Item
from sottovoce.archive.manifest import Manifest as Listing
from sottovoce.archive.sources import SHARD_SUFFIXES
from sottovoce.archive.stores import Folder, Store, is_address, open_store
from sottovoce.atomic import replacing
from sottovoce.config import TrainingSettings
from sottovoce.data.corpora.manifest import Manifest
from sottovoce.data.corpora.skipped import Skipped
from sottovoce.data.corpora.stream import RecordingStream, Window, group_of
from sottovoce.errors import AudioError, DataError
from sottovoce.paths import resolved
from sottovoce.progress import Progress, TaskProgress, part
from sottovoce.signal import audio

SKIPPED = "skipped.jsonl"
"""Name of the table of what could not be used, in a run's folder."""

KINDS = ("speech", "mixtures")
"""What a training takes, in the order of its random numbers."""

# So many recordings are held in memory for the health checks, of four times as many that are tried.
_HELD_BACK, _TRIED = 16, 64
# What random numbers are drawn for, of a training and, beside those of the stream itself, of a stream.
_ORDER, _CHECKS = 110, 10


@dataclass(frozen=True)
class Streamed:
    """Recordings that a manifest lists, as a training takes them.

    Attributes:
        stream: What is trained on.
        held_back: Some of what is not; without a second speaker or session, the first of what is trained on.
        is_divided: Whether these are other speakers or sessions.
        sample: Some of both.
        keys: Hashes of the addresses and contents of all recordings, sorted.
    """

    stream: RecordingStream
    held_back: Window
    is_divided: bool
    sample: Manifest
    keys: NDArray[np.uint64]


def open_listing(place: Path | str, folder: Path, on_progress: Progress | None = None) -> Listing | None:
    """Open a manifest, or list what lies in shards or at an address.

    Args:
        place: A folder or an address: of a manifest, of recordings, of shards; or a shard.
        folder: Where to list recordings that are in no manifest yet; what is there is taken.
        on_progress: Called while recordings are listed.

    Returns:
        The manifest; None for a folder of recordings alone.

    Raises:
        DataError: The manifest is not whole, an address has no recordings, or those of another place are listed there.
        ConfigError: The address is of no kind that is known.
        MissingExtraError: What reaches it is not installed.
    """
    store = open_store(place)
    with suppress(OSError):  # whoever lists what is there says it
        if store.size(INDEX_NAME) is not None:
            return Listing.open(place)
    if not is_address(place) and not _has_shards(Path(place)):
        return None
    if (folder / INDEX_NAME).exists():
        listed = Listing.open(folder)
        if not _lies_in(listed, store):
            raise DataError(
                f"found a list of recordings in {folder} that are not those in {store.address()}: give another folder "
                "for the run, or the recordings as they were"
            )
        return listed
    try:
        return make_manifest([place], folder, hashes=False, on_progress=on_progress)
    except AudioError as error:
        raise DataError(str(error)) from error


def _lies_in(listing: Listing, store: Store) -> bool:
    """Whether the first item of a list is one of a place."""
    if isinstance(store, Folder):  # lists have links to folders as what they lead to
        path = store.path
        store = Folder(resolved(path) if path.is_dir() else resolved(path.parent) / path.name)
    place = store.uri("")
    for part_of_listing in listing.parts:
        with suppress(DataError):  # whoever goes through the list says it
            first = listing.read(part_of_listing)[0].uri
            return first == place or first.startswith((f"{place}/", f"{place}#"))
    return True


def _has_shards(path: Path) -> bool:
    if path.suffix.lower() in SHARD_SUFFIXES and path.is_file():
        return True
    with suppress(AudioError):  # whoever reads the folder says what is wrong with it
        return any(found.suffix.lower() in SHARD_SUFFIXES for found in audio.walk_audio(path, also=SHARD_SUFFIXES))
    return False


def open_stream(
    name: str, listing: Listing, out: Path, settings: TrainingSettings, on_progress: Progress | None = None
) -> Streamed:
    """Go through a manifest once and divide it, so that no speaker or session is on both sides.

    Args:
        name: "speech" or "mixtures", whose noise is wanted as well.
        listing: The manifest.
        out: The run's folder, which notes what the manifest was.
        settings: Seed; readers and what they have in memory; share of the speakers or sessions that is held back.
        on_progress: Called for every part.

    Returns:
        What is trained on and what is not.

    Raises:
        DataError: Nothing can be used, or `out` holds a run on other recordings.
        StorageError: This machine has no room for copies of recordings.
    """
    _require_same(listing, out, name)
    seed = (settings.seed, _ORDER + KINDS.index(name))
    skipped = Skipped(out / SKIPPED)
    survey = _Survey(Division(seed, settings.data.held_back_share))
    survey.take(listing, skipped, part(on_progress, f"looking at {name}"))
    limit = survey.limit
    stream = RecordingStream(
        listing,
        seed=seed,
        readers=settings.data.stream.readers * settings.processes * settings.accumulate,
        recordings=settings.data.stream.recordings,
        takes=Division(seed, limit).takes,
        has_noise=name == "mixtures",
        skipped=skipped,
    )
    first = stream.window(0)
    held_back = first
    if limit:
        held_back = _held_back(stream, survey.candidates, seed, part(on_progress, f"reading {name} to check with"))
        if not held_back.recordings.recordings:
            raise DataError(
                f"found no recording to check with among {len(survey.candidates)} of {listing.store.address()}: "
                f"{skipped.path} says why"
            )
    _note(listing, out, name)
    both = (*first.recordings.recordings, *held_back.recordings.recordings)
    return Streamed(stream, held_back, bool(limit), Manifest(tuple(dict.fromkeys(both))), survey.keys())


def _held_back(
    stream: RecordingStream, candidates: Sequence[Item], seed: Sequence[int], progress: TaskProgress | None
) -> Window:
    windows: list[Window] = []
    for index, item in enumerate(candidates):
        window = stream.read(item, np.random.default_rng([*seed, _CHECKS, index]))
        windows += [] if window is None else [window]
        if progress is not None:
            progress(len(windows), _HELD_BACK)
        if len(windows) == _HELD_BACK:
            break
    return Window(
        Manifest(tuple(recording for window in windows for recording in window.recordings.recordings)),
        tuple(stretch for window in windows for stretch in window.stretches),
    )


@dataclass(frozen=True)
class Division:
    """Who is held back: speakers and sessions whose place, which follows from seed and name, is below a limit.

    Attributes:
        seed: Seed of the places.
        limit: From 0, for nobody, to 1.
    """

    seed: tuple[int, ...]
    limit: float

    def place(self, name: str) -> float:
        """Place of a speaker, session or recording, from 0 to 1."""
        return _hashed(f"{list(self.seed)} {name}") / 2**64

    def takes(self, name: str) -> bool:
        """Whether a speaker or session is trained on."""
        return self.place(name) >= self.limit


@dataclass
class _Survey:
    """What is known of a manifest after one look at every item: numbers and a few items, however many there are."""

    wanted: Division
    _lowest: float = 2.0
    _highest: float = -1.0
    _below: list[tuple[float, int, Item]] = field(default_factory=list)
    _of_lowest: list[tuple[float, int, Item]] = field(default_factory=list)
    _keys: "array[int]" = field(default_factory=lambda: array("Q"))

    def take(self, listing: Listing, skipped: Skipped, progress: TaskProgress | None) -> None:
        """Look at all items, a part at a time."""
        number = 0
        for part_of_listing in listing.parts:
            try:
                items = listing.read(part_of_listing)
            except DataError as error:
                skipped.note(part_of_listing.name, listing.store.address(part_of_listing.name), str(error))
                items = []
            for item in items:
                number += 1
                self._take(item, number)
            if progress is not None:
                progress(number, listing.items)
        if not number:
            raise DataError(f"found no part of {listing.store.address()} that can be read: {skipped.path} says why")

    def _take(self, item: Item, number: int) -> None:
        group, place = (self.wanted.place(name) for name in (group_of(item.id), item.id))
        self._highest = max(self._highest, group)
        if group < self._lowest:
            self._lowest, self._of_lowest = group, []
        if group == self._lowest:
            _keep(self._of_lowest, place, number, item)
        if group < self.wanted.limit:
            _keep(self._below, place, number, item)
        self._keys.append(_hashed(item.uri))
        if item.hash is not None:
            self._keys.append(_hashed(item.hash))

    @property
    def limit(self) -> float:
        """Up to which place speakers or sessions are held back, so that one at least is, and one is not; 0 for none."""
        if not self.wanted.limit or self._lowest == self._highest:
            return 0.0
        return min(max(self.wanted.limit, float(np.nextafter(self._lowest, 1.0))), self._highest)

    @property
    def candidates(self) -> list[Item]:
        """Some items that are held back, in an order of their own."""
        division = Division(self.wanted.seed, self.limit)
        kept = [entry for entry in self._below or self._of_lowest if not division.takes(group_of(entry[2].id))]
        return [item for _, _, item in sorted(kept, reverse=True)]

    def keys(self) -> NDArray[np.uint64]:
        """Hashes of addresses and contents, sorted."""
        return np.unique(np.frombuffer(self._keys, np.uint64))


def _keep(kept: list[tuple[float, int, Item]], place: float, number: int, item: Item) -> None:
    """Keep the items of the lowest places alone."""
    heapq.heappush(kept, (-place, -number, item))
    if len(kept) > _TRIED:
        heapq.heappop(kept)


def keys_of(manifest: Manifest) -> NDArray[np.uint64]:
    """Hashes of the addresses of recordings in a folder, to compare with those of a manifest.

    Args:
        manifest: Recordings on this machine.

    Returns:
        The hashes, sorted.
    """
    found = [_hashed(recording.path.resolve().as_uri()) for recording in manifest.recordings]
    return np.unique(np.array(found, np.uint64))


def _hashed(text: str) -> int:
    content = text.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _described(listing: Listing) -> dict[str, object]:
    parts = hashlib.sha256("".join(part.sha256 for part in listing.parts).encode()).hexdigest()
    return {"items": listing.items, "seconds": round(listing.seconds, 3), "parts_sha256": parts}


def _require_same(listing: Listing, out: Path, name: str) -> None:
    noted = out / f"{name}.json"
    before = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else None
    found = _described(listing)
    if (out / f"{name}.jsonl").exists() or (before is not None and any(before[key] != found[key] for key in found)):
        raise DataError(
            f"found a run on other recordings in {out} than those that {listing.store.address()} lists: give another "
            "folder for the run, or the manifest as it was"
        )


def _note(listing: Listing, out: Path, name: str) -> None:
    with replacing(out / f"{name}.json") as temporary:
        content = {"place": listing.store.address(), **_described(listing)}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
