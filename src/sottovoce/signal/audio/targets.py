"""What is said of files that are written, by whatever writes them."""

import errno
import logging
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import publish
from sottovoce.errors import AudioError, StorageError
from sottovoce.paths import advice_on, is_folder

log = logging.getLogger(__name__)

LOSSY_PEAK = 10
"""Samples of lossy formats are limited to this, 20 dB above full scale: far beyond, libsndfile's MP3 encoder ends the
process and its Opus encoder gives silence."""


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is that is not to be replaced.

    Args:
        path: The file to write.
        overwrite: Replace an existing file.

    Raises:
        AudioError: There is a folder, or a file that is kept, or the name cannot be used.
    """
    if is_folder(path):
        raise AudioError(f"cannot write {path}: found a folder, expected a file name")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(path, error) from error
    if not overwrite:
        raise existing(path)


def unwritable(path: Path, error: Exception) -> AudioError:
    """Make the error for a file that cannot be begun.

    Args:
        path: The file that was to be written.
        error: What the system or the muxer says.

    Returns:
        The error, to be raised: a `StorageError` where it is not the recording's own.
    """
    reason = getattr(error, "strerror", None) or error
    advice = advice_on(error, "name a folder that exists and that you may write to")
    # A muxer refuses a recording, and a file system a name; whatever else it is hits any recording.
    is_own = not isinstance(error, OSError) or error.errno == errno.ENAMETOOLONG
    return (AudioError if is_own else StorageError)(f"cannot write {path} ({reason}): {advice}")


def existing(path: Path) -> AudioError:
    """Make the error for a file that is there and is kept.

    Args:
        path: The file.

    Returns:
        The error, to be raised.
    """
    return AudioError(f"{path} exists and is kept: name another output, or allow overwriting")


def disk_error(path: Path, seconds: float) -> StorageError:
    """Make the error for a disk that took not all of the sound.

    Args:
        path: The file that was to be written.
        seconds: How much it took.

    Returns:
        The error, to be raised.
    """
    return StorageError(
        f"cannot write {path}: the disk is full or failed after {seconds:.1f} seconds of sound, and nothing was kept; "
        "free some space or name another folder"
    )


def require_block(block: NDArray[np.floating], channels: int) -> None:
    """Refuse a block of another shape than a writer takes.

    Args:
        block: Samples `(channels, n)`.
        channels: Number of channels.

    Raises:
        ValueError: The block has another shape.
    """
    if block.ndim != 2 or block.shape[0] != channels:
        raise ValueError(f"found a block of shape {block.shape}, expected ({channels}, samples)")


def nothing_to_write(path: Path) -> AudioError:
    """Make the error for a file to which no sample was written.

    Args:
        path: The file that was to be written.

    Returns:
        The error, to be raised.
    """
    return AudioError(f"found no samples to write to {path}, expected one at least")


def put_in_place(part: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name.

    Args:
        part: The temporary file.
        path: Its name.
        overwrite: Replace an existing file.

    Raises:
        AudioError: There is a file that is kept, or the folder does not take it.
    """
    try:
        publish(part, path, overwrite=overwrite)
    except FileExistsError:
        raise existing(path) from None
    except OSError as error:
        raise StorageError(f"cannot write {path} ({error.strerror}): name another file") from error


def limit(block: NDArray[np.floating], peak: int) -> tuple[NDArray[np.float32], int]:
    """Limit samples, since encoders do what they like with those that they do not expect.

    Args:
        block: Samples of any shape, full scale ±1.
        peak: The largest size that is kept.

    Returns:
        Float32 samples within ±peak, and how many were beyond.
    """
    samples = block.astype(np.float32)
    count = int(np.count_nonzero(np.abs(samples) > peak))
    return np.clip(samples, np.float32(-peak), np.float32(peak)), count


def warn_limited(path: Path, count: int, peak: int) -> None:
    """Say that samples were limited, if any were.

    Args:
        path: The file that was written.
        count: How many.
        peak: To what they were limited.
    """
    if count:
        beyond = "full scale" if peak == 1 else f"{20 * math.log10(peak):.0f} dB above full scale"
        log.warning(
            "%s: %d samples were beyond %s and were limited to ±%d; 32-bit float WAV would keep them",
            path,
            count,
            beyond,
            peak,
        )


def warn_unkept(path: Path, names: Iterable[str]) -> None:
    """Say what of a recording is not in its enhanced version, if anything.

    Args:
        path: The file that was written.
        names: What was left out, in words.
    """
    unkept = ", ".join(dict.fromkeys(names))
    if unkept:
        log.warning("%s: left out, since this kind of file has no place for it: %s", path, unkept)
