"""Folders of recordings, and the tables that tell how each was made."""

import contextlib
import csv
import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import DataError
from sottovoce.signal import audio

_Row = TypeVar("_Row")


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a folder to work in, which takes the place of `output` when the block ends well and vanishes when not.

    Args:
        output: The folder to make; an existing one is replaced.

    Yields:
        Where to write: `.<name>.<random>` beside `output`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    work = output.with_name(f".{output.name}.{secrets.token_hex(8)}")
    try:
        work.mkdir()
        yield work
        if output.exists():
            shutil.rmtree(output)
        work.rename(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_or_clear(
    folder: Path, table: str, row: type[_Row], hashes_of: Callable[[_Row], dict[str, str]]
) -> list[_Row] | None:
    """Read the table of a folder that is whole, or clear the way for a new one.

    A folder that is not is deleted, and what unfinished work left beside it.

    Args:
        folder: A folder that `new_folder` may have made.
        table: Name of the table in it.
        row: The dataclass of its rows.
        hashes_of: Gives the files that a row describes, from the folder, and their SHA-256.

    Returns:
        The rows; None if the folder is missing, or its recordings are not exactly those that the table describes.
    """
    with contextlib.suppress(DataError):
        rows = read_table(folder / table, row)
        expected = {file: sha256 for one in rows for file, sha256 in hashes_of(one).items()}
        found = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.flac")
        }
        if found == expected:
            return rows
    for left in (folder, *folder.parent.glob(f".{folder.name}.*")):
        shutil.rmtree(left, ignore_errors=True)
    return None


def write_hashed(path: Path, waveform: NDArray[np.floating], sample_rate: int) -> str:
    """Write one channel to a new file.

    Args:
        path: The file; its folder is created.
        waveform: Samples `(samples,)`, full scale ±1.
        sample_rate: Rate in Hz.

    Returns:
        SHA-256 of the file.

    Raises:
        AudioError: It cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    with audio.Writer(path, sample_rate, 1) as writer:
        writer.write(waveform[np.newaxis])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_table(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind as comma-separated text; None becomes an empty cell.

    Args:
        path: The file.
        rows: One dataclass instance per line, at least one.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(rows[0])], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)


def read_table(path: Path, row: type[_Row]) -> list[_Row]:
    """Read what `write_table` wrote.

    Args:
        path: The file.
        row: The dataclass; its fields are numbers and text.

    Returns:
        One instance per line.

    Raises:
        DataError: The file is missing or is no such table.
    """
    kinds: dict[str, Callable[[str], Any]] = {
        field.name: {float: float, int: int}.get(field.type, str)  # type: ignore[arg-type]
        for field in fields(row)  # type: ignore[arg-type]
    }
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                row(**{name: kinds[name](value) for name, value in cells.items()})
                for cells in csv.DictReader(file, strict=True)
            ]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise DataError(f"found no table of {row.__name__} rows at {path} ({error}): make it anew.") from error
