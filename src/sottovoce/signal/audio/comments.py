"""Vorbis comments and pictures: what FLAC, Ogg Vorbis and Opus say beside their samples."""

import base64
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sottovoce.signal.audio.splicing import splice

MAX_METADATA_BYTES = 2**24
"""More than any tags with their pictures take; what is longer comes from a damaged file, and is not kept in memory."""

FLAC_COMMENTS, FLAC_PICTURE = 4, 6
"""Numbers of the blocks of a FLAC's header that hold tags and covers."""

FLAC_STRUCTURE = (0, 3)
"""Numbers of those that describe the samples' bytes: every writer makes its own."""

_MAX_FLAC_BLOCKS = 1024
_FLAC_PADDING = 1
_PICTURE_COMMENT = b"METADATA_BLOCK_PICTURE"
_OGG_HEADER = struct.Struct("<4sBBqIIIB")
_OGG_CONTINUED, _OGG_FIRST = 1, 2
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class FlacBlock(NamedTuple):
    """A block of a FLAC's header: its number and content."""

    kind: int
    content: bytes


class _Page(NamedTuple):
    """A page of an Ogg.

    Attributes:
        flags: Whether it goes on with a packet, is the first, or the last.
        granule: Position in samples of the last packet that ends in it; -1 if none does.
        serial: The stream that it belongs to.
        number: Its number in that stream.
        lacing: Lengths of its segments.
        content: Its segments.
    """

    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    content: bytes

    def packed(self) -> bytes:
        head = _OGG_HEADER.pack(b"OggS", 0, self.flags, self.granule, self.serial, self.number, 0, len(self.lacing))
        page = head + self.lacing + self.content
        return page[:22] + struct.pack("<I", ogg_checksum(page)) + page[26:]


def ogg_checksum(page: bytes) -> int:
    """Compute the checksum of an Ogg page: the polynomial of zlib, with bits in the other order and nothing inverted.

    Args:
        page: The page, with zeros in the place of the checksum.

    Returns:
        32 bits.
    """
    reversed_sum = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(reversed_sum.to_bytes(4, "little").translate(_REVERSED_BITS), "big")


def flac_blocks(file: BinaryIO) -> tuple[list[FlacBlock], int, int]:
    """Read the header of a FLAC.

    Args:
        file: A file that begins with "fLaC".

    Returns:
        Its blocks, as many as are whole and together take no more than `MAX_METADATA_BYTES`; the position where the
        sound begins; and the bytes of the blocks that were too much.
    """
    blocks: list[FlacBlock] = []
    position, taken, skipped = 4, 0, 0
    for _ in range(_MAX_FLAC_BLOCKS):
        file.seek(position)
        head = file.read(4)
        if len(head) < 4:
            break
        kind, length = head[0] & 0x7F, int.from_bytes(head[1:], "big")
        if taken + length > MAX_METADATA_BYTES:
            skipped += length
        elif kind != _FLAC_PADDING:
            blocks.append(FlacBlock(kind, file.read(length)))
            taken += length
        position += 4 + length
        if head[0] & 0x80:
            break
    return blocks, position, skipped


def read_flac_comments(file: BinaryIO) -> tuple[bytes, ...]:
    """Read the tags of a FLAC.

    Args:
        file: A file that begins with "fLaC".

    Returns:
        Comments, such as b"TITLE=Interview".
    """
    blocks, _, _ = flac_blocks(file)
    return tuple(comment for kind, content in blocks if kind == FLAC_COMMENTS for comment in parse_comments(content))


def replace_flac_blocks(path: Path, comments: Sequence[bytes], others: Iterable[FlacBlock]) -> None:
    """Put tags, pictures and other blocks into the header of a FLAC, in the place of its own comments.

    Args:
        path: The file.
        comments: Its comments.
        others: What else stands in its header.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("rb") as file:
        own, end, _ = flac_blocks(file)
    vendor = next((_vendor(content) for kind, content in own if kind == FLAC_COMMENTS), b"")
    blocks = [block for block in own if block.kind != FLAC_COMMENTS]
    blocks += [FlacBlock(FLAC_COMMENTS, pack_comments(vendor, comments)), *others]
    header = b"fLaC"
    for index, (kind, content) in enumerate(blocks):
        is_last = index == len(blocks) - 1
        header += bytes([kind | is_last << 7]) + len(content).to_bytes(3, "big") + content
    splice(path, 0, end, header)


def read_ogg_comments(file: BinaryIO) -> tuple[bytes, ...] | None:
    """Read the tags of an Ogg Vorbis or Opus.

    Args:
        file: A file that begins with "OggS".

    Returns:
        Comments, such as b"TITLE=Interview"; None if they take more than `MAX_METADATA_BYTES`, or are damaged.
    """
    packets, _, _ = _ogg_header(file)
    if len(packets) < 2:
        return None
    return parse_comments(packets[1][_prefix_length(packets[1]) :])


def ogg_sound_start(file: BinaryIO) -> int:
    """Find where the header of an Ogg Vorbis or Opus ends.

    Args:
        file: A file that begins with "OggS".

    Returns:
        Position in bytes.
    """
    return _ogg_header(file)[2]


def replace_ogg_comments(path: Path, comments: Sequence[bytes]) -> None:
    """Put tags into an Ogg Vorbis or Opus, in the place of its own.

    Args:
        path: The file, of one stream.
        comments: Its comments.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("rb") as file:
        packets, pages, end = _ogg_header(file)
    _, tags, *setup = packets
    prefix = tags[: _prefix_length(tags)]
    packed = prefix + pack_comments(_vendor(tags[len(prefix) :]), comments)
    if prefix.startswith(b"\x03vorbis"):
        packed += b"\x01"  # a bit that ends the packet
    renewed = list(_paginate([packed, *setup], serial=pages[0].serial))
    header = pages[0].packed() + b"".join(page.packed() for page in renewed)
    splice(path, 0, end, header)
    shift = 1 + len(renewed) - len(pages)
    if shift:
        _renumber_pages(path, len(header), shift)


def parse_comments(content: bytes) -> tuple[bytes, ...]:
    """Take comments apart.

    Args:
        content: Vendor, count and comments, each with its length before it.

    Returns:
        The comments, up to where they are damaged.
    """
    position = 4 + len(_vendor(content))
    found: list[bytes] = []
    count = int.from_bytes(content[position : position + 4], "little")
    position += 4
    while len(found) < count and position + 4 <= len(content):
        length = int.from_bytes(content[position : position + 4], "little")
        position += 4
        if position + length > len(content):
            break
        found.append(content[position : position + length])
        position += length
    return tuple(found)


def pack_comments(vendor: bytes, comments: Sequence[bytes]) -> bytes:
    """Join comments.

    Args:
        vendor: Name of the encoder.
        comments: Such as b"TITLE=Interview".

    Returns:
        What `parse_comments` takes apart.
    """
    entries = b"".join(struct.pack("<I", len(comment)) + comment for comment in comments)
    return struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(comments)) + entries


def picture_comment(picture: bytes) -> bytes:
    """Write a picture as a comment, as it stands in an Ogg.

    Args:
        picture: Content of a FLAC's picture block.

    Returns:
        The comment.
    """
    return _PICTURE_COMMENT + b"=" + base64.b64encode(picture)


def take_pictures(comments: Iterable[bytes]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Part pictures from other comments.

    Args:
        comments: Comments of an Ogg.

    Returns:
        The other comments; and the pictures, as the contents of a FLAC's picture blocks.
    """
    others, pictures = [], []
    for comment in comments:
        name, _, value = comment.partition(b"=")
        if name.upper() == _PICTURE_COMMENT:
            try:
                pictures.append(base64.b64decode(value, validate=True))
                continue
            except ValueError:
                pass
        others.append(comment)
    return tuple(others), tuple(pictures)


def _vendor(content: bytes) -> bytes:
    length = int.from_bytes(content[:4], "little")
    return content[4 : 4 + length]


def _prefix_length(packet: bytes) -> int:
    return 8 if packet.startswith(b"OpusTags") else 7


def _ogg_page(file: BinaryIO) -> _Page | None:
    """The page at the file's position; None at the end, or where there is no page."""
    head = file.read(_OGG_HEADER.size)
    if len(head) < _OGG_HEADER.size:
        return None
    magic, _, flags, granule, serial, number, _, count = _OGG_HEADER.unpack(head)
    lacing = file.read(count)
    content = file.read(sum(lacing))
    if magic != b"OggS" or len(content) < sum(lacing):
        return None
    return _Page(flags, granule, serial, number, lacing, content)


def _ogg_header(file: BinaryIO) -> tuple[list[bytes], list[_Page], int]:
    """Packets of an Ogg's header, its pages, and the position where the sound begins."""
    file.seek(0)
    packets: list[bytes] = []
    pages: list[_Page] = []
    open_packet, taken, wanted = b"", 0, 2
    while len(packets) < wanted and taken <= MAX_METADATA_BYTES:
        page = _ogg_page(file)
        if page is None or (pages and page.serial != pages[0].serial):
            break
        pages.append(page)
        taken += len(page.content)
        position = 0
        pieces = [open_packet]
        for length in page.lacing:
            pieces.append(page.content[position : position + length])
            position += length
            if length < 255:
                packets.append(b"".join(pieces))
                pieces = []
        open_packet = b"".join(pieces)
        if packets and packets[0].startswith(b"\x01vorbis"):
            wanted = 3
    return packets if len(packets) >= wanted else [], pages, file.tell()


def _paginate(packets: Iterable[bytes], serial: int) -> Iterator[_Page]:
    """Pages of a header's packets after the first."""
    content = b"".join(packets)
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    position, is_continued = 0, False
    for number, start in enumerate(range(0, len(lacing), 255), 1):
        segments = lacing[start : start + 255]
        ends_packet = any(length < 255 for length in segments)
        length = sum(segments)
        yield _Page(
            _OGG_CONTINUED if is_continued else 0,
            0 if ends_packet else -1,
            serial,
            number,
            segments,
            content[position : position + length],
        )
        position += length
        is_continued = segments[-1] == 255


def _renumber_pages(path: Path, position: int, shift: int) -> None:
    with path.open("rb+") as file:
        file.seek(position)
        while (page := _ogg_page(file)) is not None:
            renumbered = page._replace(number=page.number + shift).packed()
            file.seek(position)
            file.write(renumbered)
            position += len(renumbered)
