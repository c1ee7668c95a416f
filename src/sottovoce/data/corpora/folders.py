"""Folders of recordings, and the tables that say how each was made."""

import contextlib
import csv
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import temporary_folder
from sottovoce.errors import DataError
from sottovoce.signal import audio

_Row = TypeVar("_Row")


@contextlib.contextmanager
def new_folder(output: Path, earlier: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder to work in, which becomes `output` when the block ends well and vanishes when not.

    Args:
        output: The folder to make.
        earlier: Files in it, by their paths below it, that an earlier run made: they are replaced or deleted, and
            whatever else is there stays. Without these the folder must be new or empty.

    Yields:
        Where to write, beside `output`.

    Raises:
        DataError: The folder holds something else in the place of what is to be written, or appeared meanwhile.
    """
    with temporary_folder(output) as work:
        yield work
        if not earlier:
            try:
                work.replace(output)
            except OSError as error:
                raise DataError(f"cannot make the folder {output} ({error.strerror}): choose another") from error
            return
        # What lies higher comes first. That is the table: whoever repeats an interrupted run finds in it what is ours.
        made = sorted(
            (path.relative_to(work) for path in work.rglob("*") if path.is_file()), key=lambda p: len(p.parts)
        )
        for path in made:
            if path.as_posix() not in earlier and (output / path).exists():
                raise DataError(f"found {output / path}, which no earlier run made: move it, or choose another folder")
        for name in set(earlier) - {path.as_posix() for path in made}:
            (output / name).unlink(missing_ok=True)
        for path in made:
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).replace(output / path)


def read_or_clear(
    folder: Path, table: str, row: type[_Row], hashes_of: Callable[[_Row], dict[str, str]]
) -> list[_Row] | None:
    """Read the table of a folder that is whole, or clear the way for a new one.

    A folder that is not is deleted.

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
    shutil.rmtree(folder, ignore_errors=True)
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
                row(**{name: kinds[name](value) for name, value in _renamed(cells).items()})
                for cells in csv.DictReader(file, strict=True)
            ]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise DataError(f"found no table of {row.__name__} rows at {path} ({error}): make it again") from error


def _renamed(cells: dict[str, str]) -> dict[str, str]:
    """Cells of a table that an older version wrote, under the names of this one."""
    return {"speaker" if name == "talker" else name: value for name, value in cells.items()}
