"""What stands between a command and a path, in one sentence whatever the cause."""

import errno
import os
import stat
from pathlib import Path

from sottovoce.errors import AudioError, DataError

MAX_PATH_BYTES = 1020
"""Longest path of a sound file: what libsndfile has room for."""


def is_folder(path: Path) -> bool:
    """Say whether there is a folder; unlike `Path.is_dir`, also of names that the system refuses."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Say whether there is a file; unlike `Path.is_file`, also of names that the system refuses."""
    return os.path.isfile(path)  # noqa: PTH113


def resolved(path: Path) -> Path:
    """Follow all links; unlike `Path.resolve`, also those that lead back to themselves, as far as it goes."""
    return Path(os.path.realpath(path))


def require_usable_name(path: Path) -> None:
    """Refuse a sound file whose name libsndfile does not take.

    Args:
        path: The file.

    Raises:
        AudioError: The path is no UTF-8, or too long.
    """
    try:
        length = len(str(path).encode())
    except UnicodeEncodeError:
        raise AudioError(f"found the file name {path}, which is not UTF-8: rename it") from None
    if length > MAX_PATH_BYTES:
        raise AudioError(
            f"found a path of {length} bytes, expected at most {MAX_PATH_BYTES}: move {path.name} to a folder with a "
            "shorter path"
        )


def require_sound_file(path: Path) -> None:
    """Refuse a path at which there is no file with something in it.

    Args:
        path: A sound file.

    Raises:
        AudioError: It is missing, empty, a folder, or cannot be read, or its name cannot be used.
    """
    require_usable_name(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()
            raise AudioError(f"found a folder at {path}, expected a sound file: name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"found a pipe or a device at {path}, expected a sound file: a dash is standard input")
        if status.st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes), expected a sound file: copy or record it again")
    except FileNotFoundError:
        raise AudioError(f"found nothing at {path}, expected a sound file: check the name") from None
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> AudioError:
    """Make the error for a file or folder that the system does not let anybody read.

    Args:
        path: The file or folder.
        error: What the system says.

    Returns:
        The error, to be raised.
    """
    advice = advice_on(error, "check its name, and that you may read it")
    return AudioError(f"cannot read {path} ({error.strerror or error}): {advice}")


def advice_on(error: Exception, otherwise: str) -> str:
    """Say what to do about a path that the system refuses.

    Args:
        error: What the system says.
        otherwise: What to do about most causes.

    Returns:
        `otherwise`, unless the cause is the length of the name, which permissions do not change.
    """
    return "give it a shorter name" if getattr(error, "errno", None) == errno.ENAMETOOLONG else otherwise


def require_writable(path: Path) -> None:
    """Refuse an output that cannot be made, before any work; nothing is made yet.

    Args:
        path: A file or folder to write; folders above it need not exist.

    Raises:
        DataError: The system does not take its name, or it cannot be made or written.
    """
    advice = "name another output"
    above = path
    try:
        while True:
            try:
                status = above.stat()
                break
            except FileNotFoundError:
                above = above.parent
    except OSError as error:
        advice = advice_on(error, advice)
        raise DataError(f"cannot write {path} ({error.strerror or error}): {advice}") from error
    if above != path and not stat.S_ISDIR(status.st_mode):
        raise DataError(f"cannot write {path}: found a file at {above}, expected a folder; {advice}")
    if not os.access(above, os.W_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)):
        raise DataError(f"cannot write {path}: you may not write in {above}; {advice}")
