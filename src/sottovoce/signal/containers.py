"""What a sound file says about its own length: libsndfile reads cut files without an error."""

import mmap
import struct
from pathlib import Path
from typing import BinaryIO

# Sizes that writers to a pipe, and recorders that were switched off, leave in the header of a WAV.
_UNKNOWN_SIZES = {0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000}
_UNKNOWN_SIZE_FROM = 0xFFFF_FF00

_MP3_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def find_defect(path: Path) -> str | None:
    """Find out from the container whether samples are missing from a file.

    Args:
        path: An existing file.

    Returns:
        What is wrong, as the predicate of a sentence; None if the file is whole or its container cannot tell.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
            return _cut(_wav_data(file, size), size)
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _cut(_aiff_data(file, size), size)
        if head[:4] == b"OggS":
            return _ogg_defect(file, size)
        if head[:3] == b"ID3" or (head[:1] == b"\xff" and size > 4):
            return _mp3_defect(file, size)
    return None


def is_unclosed_wav(path: Path) -> bool:
    """Say whether a WAV was never closed by its writer, so that its header gives the sizes as zero.

    Args:
        path: An existing file.

    Returns:
        True if the samples run to the end of the file although the header says that there are none.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return False
        data = _wav_data(file, size)
    riff_end = 8 + int.from_bytes(head[4:8], "little")
    # A WAV that truly holds no samples has an honest RIFF size, which covers the header at least.
    return data is not None and data[1] == 0 and data[0] < size and not data[0] < riff_end <= size


def is_unknown_size(length: int) -> bool:
    """Say whether a size in a header is one that writers leave who do not know it.

    Args:
        length: Size in bytes that a header tells.

    Returns:
        True if the samples run to the end of the file, or of the pipe.
    """
    return length in _UNKNOWN_SIZES or _UNKNOWN_SIZE_FROM <= length <= 0xFFFF_FFFF


def _cut(data: tuple[int, int] | None, size: int) -> str | None:
    if data is None:
        return None
    start, length = data
    if is_unknown_size(length) or start + length <= size:
        return None
    return f"is cut short (its header promises {length} bytes of sound, {max(0, size - start)} are there)"


def _wav_data(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Position and length in bytes of a WAV's samples, after its header."""
    position, long_size = 12, None
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data":
            return position + 8, long_size if length == 0xFFFF_FFFF and long_size else length
        position += 8 + length + length % 2
    return None


def _aiff_data(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Position and length in bytes of an AIFF's samples, after its header."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(">4sI", file.read(8))
        if name == b"SSND":
            return position + 8, length
        position += 8 + length + length % 2
    return None


def _ogg_defect(file: BinaryIO, size: int) -> str | None:
    # A page has at most 255 segments of 255 bytes: the last one begins in the last 64 KiB.
    file.seek(max(0, size - 65536))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return None
    return "is cut short (its last Ogg page is not complete)"


def _mp3_frame(header: bytes) -> tuple[int, int, int] | None:
    """Length in bytes, bit rate in kbps and position of the index of the MPEG layer III frame with this header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version = header[1] >> 3 & 3
    kbps = _MP3_KBPS[1 if version == 3 else 2][header[2] >> 4]
    rates, rate_index = _MP3_RATES.get(version), header[2] >> 2 & 3
    if rates is None or rate_index == 3 or kbps == 0:
        return None
    is_mono, padding = header[3] >> 6 == 3, header[2] >> 1 & 1
    if version == 3:
        side_information, samples = (17 if is_mono else 32), 1152
    else:
        side_information, samples = (9 if is_mono else 17), 576
    return samples // 8 * kbps * 1000 // rates[rate_index] + padding, kbps, 4 + side_information


def _mp3_defect(file: BinaryIO, size: int) -> str | None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = 0
        if content[:3] == b"ID3" and size > 10:
            a, b, c, d = content[6:10]
            start = 10 + (a << 21 | b << 14 | c << 7 | d)
        first = _mp3_frame(content[start : start + 4])
        if first is None:
            return None
        promised = _mp3_promise(content, start, first[2])
        if promised is not None:
            return _cut((start, promised), size)
        # Without an index every frame must be visited.
        position, kbps = start, set()
        while (frame := _mp3_frame(content[position : position + 4])) is not None:
            if position + frame[0] > size:
                return "is cut short (its last MP3 frame is not complete)"
            position += frame[0]
            kbps.add(frame[1])
        if len(kbps) > 1:
            return "is an MP3 of varying bit rate without an index, so that its length is not known"
    return None


def _mp3_promise(content: mmap.mmap, start: int, index: int) -> int | None:
    """Bytes from the first frame on, after the index of LAME (Xing, Info) or of Fraunhofer (VBRI)."""
    xing = content[start + index : start + index + 16]
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16:
        flags = int.from_bytes(xing[4:8], "big")
        if flags & 2:
            offset = start + index + (12 if flags & 1 else 8)
            return int.from_bytes(content[offset : offset + 4], "big")
    vbri = content[start + 36 : start + 50]
    if vbri[:4] == b"VBRI" and len(vbri) == 14:
        return int.from_bytes(vbri[10:14], "big")
    return None
