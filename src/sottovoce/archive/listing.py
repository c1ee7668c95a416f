"""Recordings become the items of a manifest: found in order, looked at by several processes."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sottovoce.archive.manifest import PART_ITEMS, Item, Manifest, require_new, write_manifest
from sottovoce.archive.pool import Advance, Pool
from sottovoce.engine.workers import WorkerDiedError, Workers
from sottovoce.errors import AudioError, ConfigError, DataError
from sottovoce.paths import is_folder, resolved, unreadable
from sottovoce.progress import Progress
from sottovoce.signal.audio import probe, walk_audio

log = logging.getLogger(__name__)

_BATCH_FILES = 64
# So many recordings that cannot be read are named; the table of results names all.
_MAX_NAMED = 10


@dataclass(frozen=True)
class _File:
    """A file that was found, and what it is called."""

    path: Path
    id: str


@dataclass(frozen=True)
class _Look:
    """What was seen of a file: its item, and why it cannot be read, if it cannot."""

    item: Item
    error: str | None = None


def make_manifest(
    inputs: Sequence[Path],
    output: Path,
    *,
    hashes: bool = True,
    part_items: int = PART_ITEMS,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> Manifest:
    """List recordings in a manifest; equal files at equal places give an equal one.

    The order is that of the inputs, and of names within a folder. A recording that cannot be read is listed with no
    length, and a warning says why: when it is to be enhanced, it is tried again. What lies in a folder that is listed
    already is listed once.

    Args:
        inputs: Files, and folders that are searched with the folders below them.
        output: Folder to make.
        hashes: Read every file whole and list its SHA-256, by which a change is noticed later; otherwise its size.
        part_items: Recordings of each part, 1 or more.
        jobs: Number of processes that read the recordings, 1 or more.
        on_progress: Called with the number of recordings that were looked at; nobody knows how many will come.

    Returns:
        The manifest.

    Raises:
        AudioError: An input is missing, a folder holds no recording, or one so many that there is no room to sort them.
        ConfigError: A number is out of its range.
        DataError: There is no input, or the output exists or cannot be made.
        OSError: The disk takes no more.
    """
    if part_items < 1 or jobs < 1:
        raise ConfigError(f"found {part_items} items and {jobs} jobs, expected 1 or more of each")
    if not inputs:
        raise DataError("found no input, expected recordings or folders of recordings")
    require_new(output)
    count = 0

    def show(step: float) -> None:
        nonlocal count
        count += int(step)
        if on_progress is not None:
            on_progress("looking at recordings", count, count, f"{count} recordings")

    # Without an engine, a process of the pool only looks at files: one that makes its decoder crash is listed, too.
    with Pool(Workers(hashes), jobs, show) as pool:
        batches = _batches(_files(_outermost(inputs)))
        looks = (look for batch in pool.in_order(lambda files: _look(pool, files), batches) for look in batch)
        unreadable_count = 0

        def items() -> Iterator[Item]:
            nonlocal unreadable_count
            for look in looks:
                if look.error is not None:
                    unreadable_count += 1
                    if unreadable_count <= _MAX_NAMED:
                        log.warning("listed, but it cannot be read now: %s", look.error)
                yield look.item

        manifest = write_manifest(items(), output, part_items=part_items)
    if unreadable_count > _MAX_NAMED:
        log.warning("%d recordings cannot be read now; the results of enhancing will say why", unreadable_count)
    return manifest


def _outermost(inputs: Sequence[Path]) -> list[Path]:
    """Leave out inputs that lie in others, so that every recording is listed once without a list of all."""
    missing = next((path for path in inputs if not os.path.lexists(path)), None)
    if missing is not None:
        raise AudioError(f"found nothing at {missing}, expected a recording or a folder of recordings: check the name")
    places = [resolved(path.parent) / path.name if not is_folder(path) else resolved(path) for path in inputs]
    folders = {place for place in places if is_folder(place)}
    kept: dict[Path, None] = {}
    for path, place in zip(inputs, places, strict=True):
        around = next((above for above in place.parents if above in folders), None)
        if around is not None or place in kept:
            log.warning("%s is listed once, though it was named twice or lies in %s", path, around or place)
        else:
            kept[place] = None
    return list(kept)


def _files(places: Sequence[Path]) -> Iterator[_File]:
    for place in places:
        if not is_folder(place):
            yield _File(place, place.name)
            continue
        for path in walk_audio(place):
            yield _File(path, path.relative_to(place).as_posix())


def _batches(files: Iterator[_File]) -> Iterator[list[_File]]:
    while batch := list(islice(files, _BATCH_FILES)):
        yield batch


def _look(pool: Pool, files: list[_File]) -> list[_Look]:
    """Look at some files in another process; if that dies, at each of them in one of its own."""
    try:
        return pool.call(look_at, files)
    except WorkerDiedError as error:
        if len(files) > 1:
            return [look for file in files for look in _look(pool, [file])]
        reason = f"{files[0].path} made the process crash that read it ({error}): it may be damaged, copy it again"
        return [_Look(_item(files[0], None, None), reason)]


def look_at(hashes: bool, files: Sequence[_File], *, advance: Advance) -> list[_Look]:
    """Find out what files are, in a process of its own.

    Args:
        hashes: Whether to take their hashes.
        files: Some files.
        advance: Called with 1 after each.

    Returns:
        What was seen, in their order.
    """
    looks = []
    for file in files:
        try:
            seconds = probe(file.path).seconds
            looks.append(_Look(_item(file, seconds, sha256_of(file.path) if hashes else None)))
        except AudioError as error:
            looks.append(_Look(_item(file, None, None), str(error)))
        advance(1)
    return looks


def _item(file: _File, seconds: float | None, digest: str | None) -> Item:
    try:
        size = None if is_folder(file.path) else file.path.stat().st_size
    except OSError:
        size = None
    return Item(file.id, file.path.as_uri(), size, seconds, digest)


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
