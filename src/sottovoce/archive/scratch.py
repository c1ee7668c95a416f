"""Copies on this machine of files that lie elsewhere, which are deleted after use."""

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sottovoce.atomic import temporary_beside, temporary_folder
from sottovoce.errors import StorageError

_COPY_BYTES = 2**20
# Beyond twice the size of a file, for what else is written.
_RESERVE_BYTES = 2**24


@contextlib.contextmanager
def scratch_copy(file: BinaryIO, name: str, uri: str) -> Iterator[Path]:
    """Copy a file to this machine for as long as a block runs.

    Args:
        file: Where it is read from.
        name: Name of the copy.
        uri: Where the file is, in words for people.

    Yields:
        The path of the copy.

    Raises:
        StorageError: This machine has no room for it.
        OSError: The file cannot be read.
    """
    with scratch_folder(uri) as folder:
        path = folder / name
        with _blaming_this_machine(uri):
            copy = path.open("xb")
        with copy:
            while content := file.read(_COPY_BYTES):
                with _blaming_this_machine(uri):
                    copy.write(content)
            with _blaming_this_machine(uri):
                copy.flush()
        yield path


def scratch_takes(size: int) -> bool:
    """Say whether this machine has room for the copy of a file.

    Args:
        size: Its size in bytes.
    """
    try:
        return folder_takes(Path(tempfile.gettempdir()), size)
    except OSError:
        return False


@contextlib.contextmanager
def scratch_folder(uri: str) -> Iterator[Path]:
    """Make a folder for the copy of a file; one that a killed process leaves is deleted by the next one.

    Args:
        uri: Where the file is, in words for people.

    Yields:
        The folder, which is deleted at the end.

    Raises:
        StorageError: This machine has no room for it.
    """
    with contextlib.ExitStack() as stack:
        with _blaming_this_machine(uri):
            folder = stack.enter_context(temporary_folder(Path(tempfile.gettempdir()) / "sottovoce"))
        yield folder


@contextlib.contextmanager
def _blaming_this_machine(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the machine {socket.gethostname()} has no room for a copy of {uri} ({error.strerror or error}): free "
            "some space in its folder for temporary files, or set TMPDIR to another one"
        ) from error


def folder_takes(folder: Path, size: int) -> bool:
    """Say whether a folder has room for a file, and may be written to.

    Args:
        folder: An existing folder.
        size: Size of the file in bytes.
    """
    trial = temporary_beside(folder / "trial")
    try:
        trial.write_bytes(bytes(2**16))
        return shutil.disk_usage(folder).free >= 2 * size + _RESERVE_BYTES
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):  # some that refuse to write refuse this as well
            trial.unlink(missing_ok=True)
