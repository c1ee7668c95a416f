"""Bytes are put into a file, in memory that does not depend on its length."""

from pathlib import Path

_BLOCK_BYTES = 2**20


def splice(path: Path, start: int, end: int, content: bytes) -> None:
    """Replace a part of a file by something longer or shorter.

    Args:
        path: The file, which is changed in place.
        start: First byte that is replaced.
        end: First byte after it that stays.
        content: What takes its place.

    Raises:
        OSError: The file cannot be read or written.
    """
    shift = len(content) - (end - start)
    with path.open("rb+") as file:
        size = file.seek(0, 2)
        # What must not be overwritten before it is read comes first.
        positions = range(end, size, _BLOCK_BYTES)
        for position in reversed(positions) if shift > 0 else positions if shift < 0 else ():
            file.seek(position)
            block = file.read(min(_BLOCK_BYTES, size - position))
            file.seek(position + shift)
            file.write(block)
        if shift < 0:
            file.truncate(size + shift)
        file.seek(start)
        file.write(content)
