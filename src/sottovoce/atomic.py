"""Files that appear whole or not at all, and never in place of one that nobody wanted to replace."""

import contextlib
import functools
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from sottovoce.errors import DataError

# Which machine and which process make a temporary file or folder, so that another one knows what is left over.
_MACHINE = f"{zlib.crc32(os.uname().nodename.encode() if hasattr(os, 'uname') else b''):08x}"
# In a container, a process has the number of the one before the restart.
_RUN = os.urandom(4).hex()
_TEMPORARY = re.compile(rf"\.sottovoce-{_MACHINE}-(\d{{1,10}})-([0-9a-f]{{8}})[0-9a-f]{{8}}(\..*)?", re.DOTALL)


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`, which becomes `path` when the block ends well and vanishes when not.

    Args:
        path: The file to write; its folder is created.
        overwrite: Replace a file of this name, of which the permissions are kept.

    Yields:
        Where to write; it keeps the suffix, from which libraries know the format.

    Raises:
        DataError: There is a file of this name, and it is not to be replaced.
        OSError: The folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        publish(temporary, path, overwrite=overwrite)
    except FileExistsError:
        if overwrite:
            raise
        raise DataError(f"found {path}, which is kept: name another output, or allow overwriting") from None
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Name a temporary file or folder in the folder of `path`, after clearing what dead processes left there.

    Args:
        path: What the temporary one will become; its folder exists.

    Returns:
        A path that does not exist, with the suffix of `path`; hidden where a dot hides.
    """
    _clear_leftovers_once(path.parent.absolute())
    return path.with_name(f".sottovoce-{_MACHINE}-{os.getpid()}-{_RUN}{os.urandom(4).hex()}{path.suffix}")


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Make a folder to work in beside `path`, which is deleted at the end unless it was renamed.

    Args:
        path: What comes from it; its folder is created.

    Yields:
        The folder.

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_beside(path)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name, at once and for good.

    Args:
        temporary: The finished file, in the folder of `path`.
        path: Its name.
        overwrite: Replace a file of this name, of which the permissions are kept.

    Raises:
        FileExistsError: There is a file of this name, and it is not to be replaced; `temporary` is left.
        OSError: The file system does not do it.
    """
    # Windows syncs no file that is open for reading only.
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    if overwrite:
        with contextlib.suppress(OSError):  # there is none, or it is somebody else's
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
        return
    try:
        # Unlike a check before a rename, a link cannot replace what appeared in between.
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # FAT has no links, and some network drives
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(path)
    else:
        temporary.unlink()


def clear_leftovers(folder: Path) -> None:
    """Delete what dead processes of this machine left unfinished.

    Args:
        folder: Where they left it; folders in it are not searched.
    """
    with contextlib.suppress(OSError):  # another process may clear the same
        for entry in list(os.scandir(folder)):
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None or _is_running(int(match[1]), match[2]):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


_clear_leftovers_once = functools.cache(clear_leftovers)


def _is_running(process: int, run: str) -> bool:
    if process == os.getpid():
        return run == _RUN
    if os.name != "posix":
        return True  # there is no cheap way to know, and what may be in use is kept
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        pass
    return True
