"""The list of an archive's recordings: parts of about a thousand lines, and an index that says what is in them."""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args
from urllib.parse import unquote_to_bytes, urlsplit

from sottovoce.archive.stores import Store, open_store
from sottovoce.errors import AudioError, ConfigError, DataError
from sottovoce.extras import require
from sottovoce.signal.audio import written_suffix

INDEX_NAME = "index.json"
"""The file of a manifest that lists its parts."""

PART_ITEMS = 1000
"""Recordings of a part, if nothing else is asked for."""

Kind = Literal["jsonl", "parquet"]
"""Kinds of files of the parts of a manifest."""

_FORMAT = "sottovoce-manifest-1"
_PART_NAME = re.compile(r"part-\d{6,9}\.(jsonl|parquet)")
_MAX_INDEX_BYTES = 2**28
_MAX_PART_BYTES = 2**30
_MAX_CHARACTERS = 4096
# Of what a name may be made of, so many characters stay: with all else in it, it fits what file systems take.
_MAX_NAME = 50
_UNSAFE = re.compile(r"[^\w.-]")
_KEY_DIGITS = 16


@dataclass(frozen=True)
class Item:
    """One recording of an archive.

    Attributes:
        id: What its owner calls it, such as its path below the folder that was listed.
        uri: Where it is: `file:///data/talk.wav`.
        bytes: Size of the file; None if it is not known.
        seconds: Length of the recording; None if it is not known, as of one that could not be read.
        hash: SHA-256 of the file, in hexadecimal digits; None if it was not taken.
    """

    id: str
    uri: str
    bytes: int | None = None
    seconds: float | None = None
    hash: str | None = None

    @property
    def path(self) -> Path:
        """The file.

        Raises:
            AudioError: The address is no file's.
        """
        try:
            address = urlsplit(self.uri)
        except ValueError as error:
            raise AudioError(f"found the address {self.uri} ({error}), expected file:///FOLDER/NAME") from None
        path = unquote_to_bytes(address.path)
        if address.scheme != "file" or address.netloc not in ("", "localhost") or not path or b"\0" in path:
            raise AudioError(f"found the address {self.uri}, expected file:///FOLDER/NAME: list the recording again")
        text = os.fsdecode(path)
        return Path(text.lstrip("/") if os.name == "nt" else text)

    @property
    def output_name(self) -> str:
        """Path of the enhanced version, below the folder of a run.

        It follows from the item alone: its folders and its name, without what a file system could take for something
        else, and a hash of all that makes it this recording. So two items have two outputs, whatever their names are,
        and none of them lies outside of the folder.
        """
        *folders, name = [part for part in PurePosixPath(self.id).parts if part not in ("/", "..")] or ["_"]
        suffix = PurePosixPath(self.uri).suffix
        identity = json.dumps([self.id, self.uri, self.bytes, self.hash]).encode()
        key = hashlib.sha256(identity).hexdigest()[:_KEY_DIGITS]
        stem = name.removesuffix(suffix) or name
        return "/".join([*map(_safe, folders), f"{_safe(stem)}-{key}{written_suffix(suffix)}"])


def _safe(name: str) -> str:
    """Keep letters, digits, dots, dashes and underscores of a name, which does not begin with a dot."""
    name = _UNSAFE.sub("_", name)[:_MAX_NAME]
    return f"_{name[1:]}" if name.startswith(".") else name


@dataclass(frozen=True)
class Part:
    """A file of a manifest, as the index describes it.

    Attributes:
        name: Name of the file.
        items: Number of recordings.
        seconds: Length of all of them; those of unknown length count as 0.
        bytes: Size of all of them, likewise.
        sha256: Hash of the file, in hexadecimal digits.
    """

    name: str
    items: int
    seconds: float
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The list of an archive's recordings, of which one part at a time is in memory.

    Attributes:
        store: Where it is.
        parts: What the index says of the parts, in order.
    """

    store: Store
    parts: tuple[Part, ...]

    @classmethod
    def open(cls, place: Path | str) -> "Manifest":
        """Read the index of a manifest.

        Args:
            place: The folder that `sottovoce archive make` wrote, or its address.

        Returns:
            The manifest.

        Raises:
            DataError: There is none, or it is not whole.
            ConfigError: The address is of no kind that is known.
            MissingExtraError: What reaches it is not installed.
        """
        store = open_store(place)
        path = store.address(INDEX_NAME)
        try:
            if (store.size(INDEX_NAME) or 0) > _MAX_INDEX_BYTES:
                raise DataError(f"found {path} of more than {_MAX_INDEX_BYTES >> 20} MiB, expected an index of parts")
            index = json.loads(store.read(INDEX_NAME))
            if index["format"] != _FORMAT:
                raise DataError(f"found the format {index['format']!r} in {path}, expected {_FORMAT!r}: make it again")
            parts = tuple(_part(entry) for entry in index["parts"])
        except FileNotFoundError:
            raise DataError(
                f"found no {INDEX_NAME} in {store.address()}, expected a manifest: `sottovoce archive make` writes one"
            ) from None
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror or error}): check that you may read it") from error
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(f"{path} is cut or was altered: make the manifest again") from None
        return cls(store, parts)

    @property
    def items(self) -> int:
        """Number of recordings."""
        return sum(part.items for part in self.parts)

    @property
    def seconds(self) -> float:
        """Length of all recordings whose length is known."""
        return sum(part.seconds for part in self.parts)

    def read(self, part: Part) -> list[Item]:
        """Read one part.

        Args:
            part: One of `parts`.

        Returns:
            Its recordings.

        Raises:
            DataError: It is gone, cut, or was edited since the index was written.
        """
        path = self.store.address(part.name)
        try:
            if (self.store.size(part.name) or 0) > _MAX_PART_BYTES:
                raise DataError(f"found {path} of more than {_MAX_PART_BYTES >> 30} GiB, expected smaller parts")
            content = self.store.read(part.name)
        except OSError as error:
            raise DataError(
                f"cannot read {path} ({error.strerror or error}): the index of its manifest lists it"
            ) from error
        is_table = part.name.endswith(".parquet")
        if hashlib.sha256(content).hexdigest() != part.sha256:
            found = "another SHA-256" if is_table else f"{len(content.splitlines())} lines, expected {part.items}"
            raise DataError(
                f"{path} is not what the index says: found {found}; it is cut, or was edited since: make the manifest "
                "again"
            )
        entries = _rows_of(content, path) if is_table else map(_parsed, content.splitlines())
        return [_item(entry, f"{path}, line {number}") for number, entry in enumerate(entries, 1)]


def write_manifest(
    items: Iterable[Item], place: Path | str, *, part_items: int = PART_ITEMS, kind: Kind = "jsonl"
) -> Manifest:
    """Write a manifest, which appears whole or not at all; one part at a time is in memory.

    In a store of objects, its parts are there before the index, which is written last.

    Args:
        items: Recordings, in the order in which they are listed.
        place: Folder to make, or an address such as `s3://bucket/manifest`.
        part_items: Recordings of each part, 1 or more.
        kind: Kind of file of the parts: lines of JSON, or Parquet, which needs the extra `stores`.

    Returns:
        The manifest.

    Raises:
        ConfigError: The address is of no kind that is known.
        DataError: The folder exists, or cannot be made, or there is no recording, or Parquet does not hold a name.
        MissingExtraError: What reaches it, or writes its parts, is not installed.
        OSError: The disk takes no more.
    """
    require_kind(kind)
    store = open_store(place)
    store.require_new(INDEX_NAME)
    remaining = iter(items)
    parts: list[Part] = []
    with store.renewed() as temporary:
        while batch := list(islice(remaining, part_items)):
            parts.append(_write_part(temporary, f"part-{len(parts):06}.{kind}", batch))
        if not parts:
            raise DataError("found no recording, expected one to list at least")
        index = {"format": _FORMAT, "parts": [asdict(part) for part in parts]}
        temporary.write(INDEX_NAME, json.dumps(index, indent=0).encode(), overwrite=False)
    return Manifest(store, tuple(parts))


def _write_part(store: Store, name: str, batch: Sequence[Item]) -> Part:
    if name.endswith(".parquet"):
        content = _table_of(batch)
    else:
        content = "".join(f"{json.dumps(vars(item))}\n" for item in batch).encode()
    store.write(name, content)
    return Part(
        name,
        len(batch),
        round(sum(item.seconds or 0.0 for item in batch), 3),
        sum(item.bytes or 0 for item in batch),
        hashlib.sha256(content).hexdigest(),
    )


def require_kind(kind: str) -> None:
    """Refuse a kind of parts that is none, or for which something is missing, before any work.

    Args:
        kind: As of `write_manifest`.

    Raises:
        ConfigError: There is no such kind.
        MissingExtraError: What writes it is not installed.
    """
    if kind not in get_args(Kind):
        raise ConfigError(f"found the kind {kind!r} of a manifest, expected {' or '.join(get_args(Kind))}")
    if kind == "parquet":
        require("stores", "A manifest of Parquet files", "pyarrow")


def _table_of(batch: Sequence[Item]) -> bytes:
    import pyarrow
    from pyarrow.parquet import write_table

    text, count, number = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    schema = pyarrow.schema({"id": text, "uri": text, "bytes": count, "seconds": number, "hash": text})
    output = pyarrow.BufferOutputStream()
    try:
        write_table(pyarrow.Table.from_pylist([vars(item) for item in batch], schema), output)
    except UnicodeEncodeError as error:
        raise DataError(
            f"found the name {error.object!r}, which Parquet does not hold: rename it, or use jsonl"
        ) from None
    content: bytes = output.getvalue().to_pybytes()
    return content


def _rows_of(content: bytes, path: str) -> list[Any]:
    require("stores", "A manifest of Parquet files", "pyarrow")
    import pyarrow
    from pyarrow.parquet import read_table

    try:
        rows: list[Any] = read_table(pyarrow.BufferReader(content)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: make the manifest again") from error
    return rows


def _parsed(line: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return None


def _part(entry: dict[str, Any]) -> Part:
    part = Part(**entry)
    if _PART_NAME.fullmatch(part.name) is None:
        raise ValueError("a part of another name may lie anywhere")
    if not (_is_count(part.items) and _is_count(part.bytes) and _is_length(part.seconds)):
        raise ValueError("expected numbers, 0 or more")
    return part


def _item(entry: Any, origin: str) -> Item:
    try:
        item = Item(**entry)
    except TypeError:
        raise DataError(
            f"{origin} is no recording: expected {', '.join(field.name for field in fields(Item))}"
        ) from None
    wrong = next((name for name, is_right in _checks(item) if not is_right), None)
    if wrong is not None:
        found = getattr(item, wrong)
        raise DataError(f"{origin} has the {wrong} {found!r}, which no recording has: make the manifest again")
    return item


def _checks(item: Item) -> Iterator[tuple[str, bool]]:
    yield "id", isinstance(item.id, str) and 0 < len(item.id) <= _MAX_CHARACTERS
    yield "uri", isinstance(item.uri, str) and 0 < len(item.uri) <= _MAX_CHARACTERS
    yield "bytes", item.bytes is None or _is_count(item.bytes)
    yield "seconds", item.seconds is None or _is_length(item.seconds)
    yield "hash", item.hash is None or isinstance(item.hash, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value >= 0
