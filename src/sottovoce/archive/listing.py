"""Recordings become the items of a manifest: found in order, looked at by several processes."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from sottovoce.archive.manifest import INDEX_NAME, PART_ITEMS, Item, Kind, Manifest, require_kind, write_manifest
from sottovoce.archive.pool import Advance, Pool
from sottovoce.archive.sources import SHARD_SUFFIXES, Sources, lies_alone, recordings_in
from sottovoce.archive.stores import Folder, FsspecStore, open_store
from sottovoce.engine.workers import WorkerDiedError, Workers
from sottovoce.errors import AudioError, ConfigError, DataError, MissingExtraError, StorageError
from sottovoce.paths import is_folder, resolved, unreadable
from sottovoce.progress import Progress
from sottovoce.signal.audio import is_recording, probe, walk_audio

log = logging.getLogger(__name__)

_BATCH_ITEMS = 64
# So many recordings that cannot be read are named; the table of results names all.
_MAX_NAMED = 10


@dataclass(frozen=True)
class _Look:
    """What was seen of a file: its item, and why it cannot be read, if it cannot."""

    item: Item
    error: str | None = None


def make_manifest(
    inputs: Sequence[Path | str],
    output: Path | str,
    *,
    hashes: bool = True,
    part_items: int = PART_ITEMS,
    kind: Kind = "jsonl",
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Manifest:
    """List recordings in a manifest; equal files at equal places give an equal one.

    The order is that of the inputs, and of names within a folder. A recording that cannot be read is listed with no
    length, and a warning says why: when it is to be enhanced, it is tried again. What lies in a folder that is listed
    already is listed once. The recordings of a tar shard and of a Parquet file are listed in its place.

    Args:
        inputs: Files, and folders that are searched with the folders below them; or addresses such as
            `s3://bucket/folder`.
        output: Folder to make, or an address.
        hashes: Read every file whole and list its SHA-256, by which a change is noticed later; otherwise its size, and
            of what lies in stores or shards not even the length is looked at.
        part_items: Recordings of each part, 1 or more.
        kind: Kind of file of the parts: lines of JSON, or Parquet.
        jobs: Number of processes that read the recordings, 1 or more.
        on_progress: Called with the number of recordings that were looked at; nobody knows how many will come.

    Returns:
        The manifest.

    Raises:
        AudioError: An input is missing, a folder holds no recording, or one so many that there is no room to sort them.
        ConfigError: A number is out of its range, or an address is of no kind that is known.
        DataError: There is no input, or the output exists or cannot be made.
        MissingExtraError: What reads an input is not installed.
        OSError: The disk takes no more.
    """
    if part_items < 1 or jobs < 1:
        raise ConfigError(f"found {part_items} items and {jobs} jobs, expected 1 or more of each")
    if not inputs:
        raise DataError("found no input, expected recordings or folders of recordings")
    require_kind(kind)
    open_store(output).require_new(INDEX_NAME)
    count = 0

    def show(step: float) -> None:
        nonlocal count
        count += int(step)
        if on_progress is not None:
            on_progress("looking at recordings", count, count, f"{count} recordings")

    # Without an engine, a process of the pool only looks at files: one that makes its decoder crash is listed, too.
    with Pool(Workers(hashes), jobs, show) as pool:
        batches = _batches(_recordings(inputs))
        looks = (look for batch in pool.in_order(lambda items: _look(pool, items), batches) for look in batch)
        unreadable_count = 0

        def items() -> Iterator[Item]:
            nonlocal unreadable_count
            for look in looks:
                if look.error is not None:
                    unreadable_count += 1
                    if unreadable_count <= _MAX_NAMED:
                        log.warning("listed, but it cannot be read now: %s", look.error)
                yield look.item

        manifest = write_manifest(items(), output, part_items=part_items, kind=kind)
    if unreadable_count > _MAX_NAMED:
        log.warning("%d recordings cannot be read now; the results of enhancing will say why", unreadable_count)
    return manifest


def _outermost(inputs: Sequence[Path | str]) -> list[Path | str]:
    """Leave out inputs that lie in others, so that every recording is listed once without a list of all."""
    places = [_place(named) for named in inputs]
    folders = {place for place in places if not isinstance(place, Path) or is_folder(place)}
    kept: dict[Path | str, None] = {}
    for named, place in zip(inputs, places, strict=True):
        around = next((above for above in _above(place) if above in folders), None)
        if around is not None or place in kept:
            log.warning("%s is listed once, though it was named twice or lies in %s", named, around or place)
        else:
            kept[place] = None
    return list(kept)


def _place(named: Path | str) -> Path | str:
    """Write one place in one way: the path of what this machine has, or an address."""
    store = open_store(named)
    if not isinstance(store, Folder):
        return store.address()
    path = store.path
    if not os.path.lexists(path):
        raise AudioError(f"found nothing at {path}, expected a recording or a folder of recordings: check the name")
    return resolved(path) if is_folder(path) else resolved(path.parent) / path.name


def _above(place: Path | str) -> Sequence[Path | str]:
    """The folders around a place; of an address, all that may be one."""
    return place.parents if isinstance(place, Path) else [place[:end] for end, at in enumerate(place) if at == "/"]


def _recordings(inputs: Sequence[Path | str]) -> Iterator[Item]:
    for place in _outermost(inputs):
        if not isinstance(place, Path):
            yield from _recordings_at(place)
        elif not is_folder(place):
            yield from _opened(place.as_uri(), place.name, None)
        else:
            for found in walk_audio(place, also=SHARD_SUFFIXES):
                yield from _opened(found.as_uri(), found.relative_to(place).as_posix(), None)


def _recordings_at(place: str) -> Iterator[Item]:
    """Find the recordings at an address, be it a file's or a folder's."""
    store = FsspecStore(place)
    is_empty = True
    try:
        for entry in store.walk():
            if is_recording(PurePosixPath(entry.name).name, SHARD_SUFFIXES):
                is_empty = False
                yield from _opened(store.uri(entry.name), entry.name, entry.bytes)
        if is_empty:
            size = store.size("")
            if size:
                is_empty = False
                yield from _opened(store.uri(""), PurePosixPath(place).name, size)
    except OSError as error:
        raise AudioError(
            f"cannot read {place} ({error.strerror or error}): check the name, and that you may read it"
        ) from error
    if is_empty:
        raise AudioError(f"found no recording at {place}, expected a recording or a folder with recordings")


def _opened(uri: str, name: str, size: int | None) -> Iterator[Item]:
    """Give a recording, or those that lie in a shard."""
    if PurePosixPath(uri).suffix.lower() in SHARD_SUFFIXES:
        return recordings_in(uri, name)
    return iter([Item(name, uri, size)])


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    while batch := list(islice(items, _BATCH_ITEMS)):
        yield batch


def _look(pool: Pool, items: list[Item]) -> list[_Look]:
    """Look at some recordings in another process; if that dies, at each of them in one of its own."""
    try:
        return pool.call(look_at, items)
    except WorkerDiedError as error:
        if len(items) > 1:
            return [look for item in items for look in _look(pool, [item])]
        where = items[0].path if lies_alone(items[0].uri) else items[0].uri
        reason = f"{where} made the process crash that read it ({error}): it may be damaged, copy it again"
        return [_Look(_sized(items[0]), reason)]


def look_at(hashes: bool, items: Sequence[Item], *, advance: Advance) -> list[_Look]:
    """Find out what recordings are, in a process of its own.

    Args:
        hashes: Whether to take their hashes.
        items: Some recordings, of which no more is known than where they are.
        advance: Called with 1 after each.

    Returns:
        What was seen, in their order.

    Raises:
        StorageError: This machine has no room for copies.
        MissingExtraError: What reaches a recording is not installed.
    """
    looks = []
    with Sources() as sources:
        for item in items:
            try:
                # A length is not worth a copy.
                if hashes or lies_alone(item.uri):
                    with sources.local_file(item) as path:
                        seconds = probe(path).seconds
                        digest = sha256_of(path) if hashes else None
                        seen = replace(item, bytes=path.stat().st_size, seconds=seconds, hash=digest)
                else:
                    seen = item
                looks.append(_Look(seen))
            except (StorageError, MissingExtraError):
                raise  # no recording is at fault
            except Exception as error:  # one recording stops no listing, whatever its decoder raises
                reason = str(error) if isinstance(error, AudioError) else f"{item.uri}: {error}"
                looks.append(_Look(_sized(item), reason))
            advance(1)
    return looks


def _sized(item: Item) -> Item:
    """Note the size of a recording that cannot be read, if it is a file."""
    if not lies_alone(item.uri):
        return item
    try:
        return replace(item, bytes=None if is_folder(item.path) else item.path.stat().st_size)
    except OSError:
        return item


def sha256_of(path: Path) -> str:
    """Hash a file in constant memory.

    Args:
        path: The file.

    Returns:
        Its SHA-256 in hexadecimal digits.

    Raises:
        AudioError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error
