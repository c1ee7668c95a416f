"""The enhanced recordings of a part in one file: a shard as of WebDataset, or Parquet as of Hugging Face's datasets."""

import hashlib
import io
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qs, quote

from sottovoce.archive.manifest import Item
from sottovoce.archive.pool import Advance
from sottovoce.archive.results import AUDIO_NAME, Row, Run
from sottovoce.archive.sources import PARQUET_SUFFIX, TAR_SUFFIX, Sources
from sottovoce.atomic import replacing
from sottovoce.errors import AudioError, ConfigError, StorageError
from sottovoce.extras import require
from sottovoce.paths import is_file

Packing = Literal["webdataset", "parquet"]

STAGING_NAME = "staging"
"""The folder of enhanced recordings that wait for the rest of their part, in a folder for each part."""

_DIGEST_DIGITS = 12
# What the samples say beside their sound: the same in every run.
_NUMBERS = ("seconds", "input_db", "output_db", "clipped", "speech", "dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak")
_COLUMN = "audio"
# A cell has 31 bits for its length.
_MAX_CELL_BYTES = 2**31 - 2**16
_GROUP_ROWS, _GROUP_BYTES = 64, 2**26


def require_packing(packing: str | None) -> None:
    """Refuse a packing that is none, or for which something is missing, before any work.

    Args:
        packing: Name of a packing; None for a file per recording.

    Raises:
        ConfigError: There is no such packing.
        MissingExtraError: What writes it is not installed.
    """
    if packing is not None and packing not in get_args(Packing):
        raise ConfigError(f"found the packing {packing!r}, expected one of {', '.join(get_args(Packing))}")
    if packing == "parquet":
        require("stores", "A Parquet file", "pyarrow")


def pack_rows(engine: object, rows: Sequence[Row], run: Run, stem: str, *, advance: Advance) -> list[Row]:
    """Put the enhanced recordings of a part into one file, in a process that works for the run.

    Those that lie in an earlier file of the part are taken from there. The name of the file follows from the names of
    its samples.

    Args:
        engine: Not needed.
        rows: What became of the part's recordings.
        run: Where they are.
        stem: Name of the part's table, without its ending.
        advance: Called once, with 0.

    Returns:
        The rows, whose outputs are in the file.

    Raises:
        AudioError: An enhanced recording is not where its row says.
        StorageError: The output does not take the file.
    """
    advance(0.0)
    enhanced = [row for row in rows if row.output is not None]
    if not enhanced:
        return list(rows)
    digest = hashlib.sha256(json.dumps([_sample_name(row) for row in enhanced]).encode()).hexdigest()[:_DIGEST_DIGITS]
    suffix, make = (PARQUET_SUFFIX, _ParquetShard) if run.packing == "parquet" else (TAR_SUFFIX, _TarShard)
    name = f"{AUDIO_NAME}/{stem}-{digest}{suffix}"
    packed: dict[int, Row] = {}
    try:
        # In a folder, the path is that of the file itself.
        with (
            run.store.target(name) as path,
            replacing(path) as temporary,
            Sources() as sources,
            make(temporary) as shard,
        ):
            for number, row in enumerate(rows):
                if row.output is not None:
                    uri = _uri(run, row.output)
                    with sources.local_file(Item(row.id, uri)) as file:
                        if not is_file(file):
                            raise AudioError(
                                f"found nothing at {uri}, expected the enhanced version of {row.id}: run the command "
                                "again"
                            )
                        packed[number] = _packed(shard, row, file, name)
    except OSError as error:
        raise StorageError(
            f"cannot write {run.store.address(name)} ({error.strerror or error}): free some space, or name another "
            "output folder"
        ) from error
    return [packed.get(number, row) for number, row in enumerate(rows)]


def outputs_outside(rows: Sequence[Row], packed: Sequence[Row]) -> list[str]:
    """Name the files that are not needed any more when a part is packed.

    Args:
        rows: The rows before.
        packed: The rows afterwards.

    Returns:
        Files below the folder of the run.
    """
    before, after = ({_file(row.output) for row in some if row.output is not None} for some in (rows, packed))
    return sorted(before - after)


def _packed(shard: "_Shard", row: Row, file: Path, name: str) -> Row:
    size = file.stat().st_size
    if size > shard.max_bytes:
        return replace(
            row,
            status="failed",
            output=None,
            error="Storage",
            message=f"{row.uri}: found {size} bytes of enhanced sound, expected at most {shard.max_bytes} for this "
            "kind of file: pack as webdataset, or not at all",
        )
    sample = _sample_name(row)
    place = shard.add(sample, file, {"id": row.id, "uri": row.uri} | {name: getattr(row, name) for name in _NUMBERS})
    return replace(row, output=f"{name}#{place}&name={quote(sample)}")


def _file(output: str) -> str:
    return output.partition("#")[0]


def _uri(run: Run, output: str) -> str:
    file, mark, place = output.partition("#")
    return run.store.uri(file) + mark + place


def _sample_name(row: Row) -> str:
    """What a sample is called; of its last part, WebDataset takes all from the first dot on for the kind of file."""
    output = row.output or ""
    file, _, place = output.partition("#")
    # A part has a folder of its own in `staging`.
    name = parse_qs(place)["name"][0] if place else "/".join(PurePosixPath(file).parts[2:])
    path = PurePosixPath(name)
    return str(path.with_name(path.stem.replace(".", "_") + path.suffix))


class _Shard(ABC):
    """A file with samples, as a context manager."""

    max_bytes: float = float("inf")

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def add(self, name: str, file: Path, about: dict[str, Any]) -> str:
        """Add a sample, and say where it is, in words for `Sources`."""


class _TarShard(_Shard):
    """A tar file with the sound and a JSON file of each sample; equal samples make an equal file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._tar = tarfile.open(self._path, "w", format=tarfile.PAX_FORMAT)  # closed below
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tar.close()

    def add(self, name: str, file: Path, about: dict[str, Any]) -> str:
        place = f"offset={self._tar.offset}"
        content = tarfile.TarInfo(name)
        content.size = file.stat().st_size
        with file.open("rb") as opened:
            self._tar.addfile(content, opened)
        text = json.dumps(about).encode()
        words = tarfile.TarInfo(str(PurePosixPath(name).with_suffix(".json")))
        words.size = len(text)
        self._tar.addfile(words, io.BytesIO(text))
        return place


class _ParquetShard(_Shard):
    """A Parquet file with a row per sample, of which a few groups of rows are in memory at most."""

    max_bytes = _MAX_CELL_BYTES

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[dict[str, Any]] = []
        self._waiting_bytes = self._rows = 0

    def __enter__(self) -> Self:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        text, number = pyarrow.string(), pyarrow.float64()
        sound = pyarrow.struct([("bytes", pyarrow.binary()), ("path", text)])
        features = {_COLUMN: {"_type": "Audio"}} | {
            name: {"dtype": kind, "_type": "Value"}
            for kind, names in (("string", ("id", "uri")), ("float64", _NUMBERS))
            for name in names
        }
        self._schema = pyarrow.schema(
            [(_COLUMN, sound), ("id", text), ("uri", text), *((name, number) for name in _NUMBERS)],
            # By this, Hugging Face's datasets know that the column is sound.
            {"huggingface": json.dumps({"info": {"features": features}})},
        )
        self._writer = ParquetWriter(self._path, self._schema, compression="none")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._writer.close()

    def add(self, name: str, file: Path, about: dict[str, Any]) -> str:
        place = f"row={self._rows}&column={_COLUMN}"
        content = file.read_bytes()
        self._waiting.append({_COLUMN: {"bytes": content, "path": name}, **about})
        self._waiting_bytes += len(content)
        self._rows += 1
        if len(self._waiting) >= _GROUP_ROWS or self._waiting_bytes >= _GROUP_BYTES:
            self._write()
        return place

    def _write(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, self._schema))
        self._waiting, self._waiting_bytes = [], 0
