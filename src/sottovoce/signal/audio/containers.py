"""What a sound file says about its own length: libsndfile reads cut files without an error, and estimates others."""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# Sizes that writers to a pipe, and recorders that were switched off, leave in the header of a WAV.
_UNKNOWN_SIZES = {0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000}
_UNKNOWN_SIZE_FROM = 0xFFFF_FF00

_MP3_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_DECODER_DELAY = 529
_VOC = b"Creative Voice File\x1a"
# Kinds of blocks that hold samples: old, continued, new.
_VOC_SOUND = (b"\1", b"\2", b"\x09")
_TAG_MP3 = b"\x55\0"
MAX_CHUNKS = 4096
"""More than any recording has; a damaged header may promise millions of empty ones."""
_MAX_FORMAT_BYTES = 1024


class Family(NamedTuple):
    """How a kind of file that is made of chunks lays them out.

    Attributes:
        name: RIFF (also RF64), AIFF, W64 or CAF.
        first: Position of the first chunk.
        header: Name and size of a chunk.
        alignment: A chunk begins at a multiple of so many bytes from the first one.
        counts_header: Whether a chunk's size covers its header.
    """

    name: str
    first: int
    header: struct.Struct
    alignment: int
    counts_header: bool

    def padding(self, length: int) -> int:
        """Bytes that follow so many bytes of a chunk's content."""
        return -length % self.alignment


RIFF = Family("RIFF", 12, struct.Struct("<4sI"), 2, counts_header=False)
AIFF = Family("AIFF", 12, struct.Struct(">4sI"), 2, counts_header=False)
W64 = Family("W64", 40, struct.Struct("<16sQ"), 8, counts_header=True)
CAF = Family("CAF", 8, struct.Struct(">4sq"), 1, counts_header=False)


class Chunk(NamedTuple):
    """A part of a file.

    Attributes:
        name: Four bytes; 16 in a W64, of which the first four are readable.
        start: Position of its content.
        length: Bytes of content, as its header or the file's says; they may not all be there.
    """

    name: bytes
    start: int
    length: int

    @property
    def is_sound(self) -> bool:
        """Whether it holds the samples."""
        return self.name[:4] in (b"data", b"SSND")


class Head(NamedTuple):
    """What a file should begin with, so that libsndfile knows its length.

    Attributes:
        content: The bytes.
        skipped: Number of the file's own bytes in whose place they stand.
        end: Where the file ends, for libsndfile; None for its own end.
    """

    content: bytes
    skipped: int
    end: int | None = None


def chunk_family(head: bytes) -> Family | None:
    """Recognise a file that is made of chunks.

    Args:
        head: Its first 40 bytes.

    Returns:
        How its chunks lie; None for other files.
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return RIFF
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return W64
    if head[:4] == b"caff":
        return CAF
    return None


def chunks(file: BinaryIO, family: Family, size: int) -> Iterator[Chunk]:
    """Visit the chunks of a file.

    Args:
        file: The file.
        family: How its chunks lie.
        size: Bytes in the file.

    Yields:
        The chunks, of which the last may reach beyond the end of the file.
    """
    position, long_size = family.first, None
    for _ in range(MAX_CHUNKS):
        if position + family.header.size > size:
            return
        file.seek(position)
        name, length = family.header.unpack(file.read(family.header.size))
        position += family.header.size
        if family.counts_header:
            length = max(0, length - family.header.size)
        if name == b"ds64" and family is RIFF:
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data" and length == 0xFFFF_FFFF and long_size:
            length = long_size
        if length < 0:  # a CAF that was never closed: the samples run to its end
            length = size - position
        yield Chunk(name, position, length)
        position += length + family.padding(length)


def find_defect(path: Path) -> str | None:
    """Find out from the container whether samples are missing from a file.

    Args:
        path: An existing file.

    Returns:
        What is wrong, as the predicate of a sentence; None if the file is whole or its container does not show it.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(40)
        family = chunk_family(head)
        if head[:4] == b"OggS":
            return _ogg_defect(file, size)
        if family is not None:
            data = _sound(file, family, size)
        elif head[:4] == b".snd" and len(head) >= 12:  # an AU
            start, length = struct.unpack_from(">II", head, 4)
            data = start, length
        elif head.startswith(b"NIST_1A"):
            data = _nist_sound(file)
        elif head.startswith(_VOC):
            data = _voc_sound(file)
        else:
            return _mp3_defect(file, size) if _may_be_mp3(head, size) else None
    return _cut(data, size)


def missing_head(path: Path) -> Head | None:
    """Make the beginning of a file that libsndfile would misread: mostly one that does not state its length.

    Args:
        path: An existing file without a defect.

    Returns:
        The beginning; None where the file's own serves, or its container is none that is known here.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RF64") and (data := _mp3_in_wav(file, size)) is not None:
            return _mp3_head(file, *data)
        if head[:4] == b"RF64" and head[8:] == b"WAVE":
            return _plain_rf64_head(file, size)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _unclosed_wav_head(file, size, riff_end=8 + int.from_bytes(head[4:8], "little"))
        if _may_be_mp3(head, size):
            return _mp3_head(file)
    return None


def is_unknown_size(length: int) -> bool:
    """Say whether a size in a header is one that writers leave who do not know it.

    Args:
        length: Size in bytes that a header states.

    Returns:
        True if the samples run to the end of the file, or of the pipe.
    """
    return length in _UNKNOWN_SIZES or _UNKNOWN_SIZE_FROM <= length <= 0xFFFF_FFFF


def id3_length(head: bytes) -> int:
    """Read how long an ID3v2 tag is.

    Args:
        head: Its first 10 bytes.

    Returns:
        Bytes with its header and footer; 0 if it is none, or damaged.
    """
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 0x7F:
        return 0
    a, b, c, d = head[6:10]
    has_footer = head[5] >> 4 & 1
    return 10 + (a << 21 | b << 14 | c << 7 | d) + 10 * has_footer


def sound_length(path: Path) -> int:
    """Find out how many bytes the samples of a file take.

    Args:
        path: A file that is made of chunks.

    Returns:
        The length that its header states; 0 if it has no samples.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        family = chunk_family(file.read(40))
        data = _sound(file, family, path.stat().st_size) if family else None
    return data[1] if data else 0


def stated_frames(path: Path) -> int | None:
    """Read how many samples per channel a WAV of compressed sound says that it has: its last block is filled up.

    Args:
        path: A WAV.

    Returns:
        The number in its `fact` chunk; None without one, and for other files.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if chunk_family(file.read(40)) is not RIFF:
            return None
        for chunk in chunks(file, RIFF, path.stat().st_size):
            if chunk.name == b"fact" and chunk.length >= 4:
                file.seek(chunk.start)
                return int.from_bytes(file.read(4), "little")
    return None


def _cut(data: tuple[int, int] | None, size: int) -> str | None:
    if data is None:
        return None
    start, length = data
    if is_unknown_size(length) or start + length <= size:
        return None
    return f"is cut short (its header promises {length} bytes of sound, {max(0, size - start)} are there)"


def _sound(file: BinaryIO, family: Family, size: int) -> tuple[int, int] | None:
    """Position and length in bytes of the samples, after a file's header."""
    for chunk in chunks(file, family, size):
        if chunk.is_sound:
            return chunk.start, chunk.length
    return None


def _nist_sound(file: BinaryIO) -> tuple[int, int] | None:
    """Position and length in bytes of the samples of a SPHERE file, if each stands for itself."""
    file.seek(0)
    lines = [line.split(None, 2) for line in file.read(_MAX_FORMAT_BYTES).splitlines()]
    values = {line[0]: line[2] for line in lines if len(line) == 3}
    if values.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"alaw"):
        return None
    try:
        count, channels, width = (int(values[name]) for name in (b"sample_count", b"channel_count", b"sample_n_bytes"))
        return int(lines[1][0]), count * channels * width
    except (KeyError, IndexError, ValueError):
        return None


def _voc_sound(file: BinaryIO) -> tuple[int, int] | None:
    """Position and length in bytes of the samples of a VOC, or of the last of its blocks of them that has begun."""
    file.seek(len(_VOC))
    position = int.from_bytes(file.read(2), "little")
    found = None
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        kind, length = file.read(1), int.from_bytes(file.read(3), "little")
        if kind in (b"", b"\0"):  # the end
            break
        position += 4
        if kind in _VOC_SOUND:
            found = position, length
        position += length
    return found


def _plain_rf64_head(file: BinaryIO, size: int) -> Head | None:
    """A beginning without chunks of odd length, behind which libsndfile finds no samples."""
    content, has_odd = b"RF64\xff\xff\xff\xffWAVE", False
    for chunk in chunks(file, RIFF, size):
        if chunk.is_sound:
            return Head(content + b"data\xff\xff\xff\xff", chunk.start) if has_odd else None
        has_odd |= chunk.length % 2 == 1
        if chunk.name in (b"ds64", b"fmt "):
            file.seek(chunk.start)
            body = file.read(min(chunk.length, _MAX_FORMAT_BYTES))
            content += RIFF.header.pack(chunk.name, len(body)) + body
    return None


def _unclosed_wav_head(file: BinaryIO, size: int, riff_end: int) -> Head | None:
    """What lets libsndfile find the end itself, if the header does not say where it is."""
    data = _sound(file, RIFF, size)
    if data is None or data[0] >= size:
        return None
    start, length = data
    sound = size - start
    if sound > (length or 0xFFFF_FFFF) and is_unknown_size(length):
        # More than libsndfile takes such a size for: only an RF64's header has room for the true one.
        file.seek(12)
        chunks = file.read(start - 4 - 12)
        long_sizes = struct.pack("<4sIQQQI", b"ds64", 28, size + 28, sound, 0, 0)
        return Head(b"RF64\xff\xff\xff\xffWAVE" + long_sizes + chunks + b"\xff\xff\xff\xff", start)
    # A WAV that truly holds no samples has an honest RIFF size, which covers the header at least.
    if length != 0 or start < riff_end <= size:
        return None
    return Head(b"RIFF\x08\0\0\0", 8)


def _ogg_defect(file: BinaryIO, size: int) -> str | None:
    # A page has at most 255 segments of 255 bytes: the last one begins in the last 64 KiB.
    file.seek(max(0, size - 65536))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return None
    return "is cut short (its last Ogg page is not complete)"


def _may_be_mp3(head: bytes, size: int) -> bool:
    return head[:3] == b"ID3" or (head[:1] == b"\xff" and size > 4)


class _Mp3Frame(NamedTuple):
    """What the header of an MPEG layer III frame says.

    Attributes:
        size: Length of the frame in bytes.
        samples: Samples per channel in it.
        index_at: Position in it where an index may be.
    """

    size: int
    samples: int
    index_at: int


def _mp3_frame(header: bytes) -> _Mp3Frame | None:
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
    return _Mp3Frame(samples // 8 * kbps * 1000 // rates[rate_index] + padding, samples, 4 + side_information)


def _mp3_defect(file: BinaryIO, size: int) -> str | None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = _mp3_start(content)
        first = _mp3_frame(content[start : start + 4])
        if first is None:
            return None
        promised = _mp3_promise(content, start, first.index_at)
        if promised is not None:
            return _cut((start, promised), size)
        # Without an index every frame must be visited.
        end, _ = _visit_mp3(content, start)
        if end > size:
            return "is cut short (its last MP3 frame is not complete)"
        if not _has_mp3_index(content, start, first.index_at) and not _is_end_of_mp3(content[end:]):
            return f"is an MP3 without an index and with a gap after {end} bytes, so that its length is not known"
    return None


def _mp3_in_wav(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Where the MP3 in a WAV begins and ends; None if there is no MP3 in it."""
    is_mp3 = False
    for chunk in chunks(file, RIFF, size):
        if chunk.name == b"fmt ":
            file.seek(chunk.start)
            is_mp3 = file.read(2) == _TAG_MP3
        if chunk.is_sound:
            end = size if is_unknown_size(chunk.length) else min(size, chunk.start + chunk.length)
            return (chunk.start, end) if is_mp3 and chunk.start < end else None
    return None


def _mp3_head(file: BinaryIO, start: int | None = None, end: int | None = None) -> Head | None:
    """An index for an MP3 that has none, whose length libsndfile would take from the size of the first frame."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if start is None:
            start = _mp3_start(content)
        header = content[start : start + 4]
        first = _mp3_frame(header)
        if first is None:
            return None
        if _has_mp3_index(content, start, first.index_at):
            return None if end is None else Head(b"", start, end)
        _, samples = _visit_mp3(content, start)
    # With an index, the decoder leaves out its own delay and what an encoder says that it added at both ends. With
    # these numbers that is a frame of silence, and all that is in the file stays.
    added = first.samples - _MP3_DECODER_DELAY, _MP3_DECODER_DELAY
    index = b"Xing" + struct.pack(">II", 1, samples // first.samples + 1)
    index += b"LAME".ljust(21, b"\0") + (added[0] << 12 | added[1]).to_bytes(3, "big")
    # At the highest bit rate a frame has room for the index; at the lowest one the next frame can take nothing from it.
    roomy, silence = (_silent_mp3_frame(header, bit_rate) for bit_rate in (14, 1))
    return Head(roomy[: first.index_at] + index + roomy[first.index_at + len(index) :] + silence, start, end)


def _silent_mp3_frame(header: bytes, bit_rate: int) -> bytes:
    """A frame like that with this header, but without a checksum, and of the bit rate with this number."""
    header = bytes([header[0], header[1] | 1, header[2] & 0x0F | bit_rate << 4, header[3]])
    frame = _mp3_frame(header)
    return b"" if frame is None else header.ljust(frame.size, b"\0")


def _mp3_start(content: mmap.mmap) -> int:
    """Position of the first frame, after tags."""
    return id3_length(content[:10])


def _visit_mp3(content: mmap.mmap, start: int) -> tuple[int, int]:
    """Position behind the last frame, of which a part may be missing, and samples per channel in all frames."""
    position, samples = start, 0
    while (frame := _mp3_frame(content[position : position + 4])) is not None:
        position += frame.size
        samples += frame.samples
    return position, samples


def _is_end_of_mp3(rest: bytes) -> bool:
    """Whether nothing but tags and zeros is left."""
    if rest.startswith(b"APETAGEX"):
        rest = rest[32 + int.from_bytes(rest[12:16], "little") :]
    if rest.startswith(b"TAG"):
        rest = rest[128:]
    return not rest.strip(b"\0")


def _has_mp3_index(content: mmap.mmap, start: int, index_at: int) -> bool:
    lame, fraunhofer = content[start + index_at : start + index_at + 4], content[start + 36 : start + 40]
    return lame in (b"Xing", b"Info") or fraunhofer == b"VBRI"


def _mp3_promise(content: mmap.mmap, start: int, index_at: int) -> int | None:
    """Bytes from the first frame on, after the index of LAME (Xing, Info) or of Fraunhofer (VBRI)."""
    xing = content[start + index_at : start + index_at + 16]
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16:
        flags = int.from_bytes(xing[4:8], "big")
        if flags & 2:
            offset = start + index_at + (12 if flags & 1 else 8)
            return int.from_bytes(content[offset : offset + 4], "big")
    vbri = content[start + 36 : start + 50]
    if vbri[:4] == b"VBRI" and len(vbri) == 14:
        return int.from_bytes(vbri[10:14], "big")
    return None
