"""Where the channels of a recording belong: the speaker mask, and the ambisonic mark, of WAV and FLAC."""

import struct
from dataclasses import dataclass
from pathlib import Path

from sottovoce.signal.audio.comments import read_flac_comments
from sottovoce.signal.audio.containers import chunk_family, chunks

TAG_EXTENSIBLE = 0xFFFE
"""Tag of the `fmt ` chunk of a WAV that says where its channels belong."""

# Behind the two bytes of the tag in the GUID of a sample format: Microsoft's, and that of ambisonic B-format.
_PLAIN_GUID = bytes.fromhex("0000 0000 1000 8000 00AA 0038 9B71")
_AMBISONIC_GUID = bytes.fromhex("0000 2107 D311 8644 C8C1 CA00 0000")
_FLAC_MASK = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK"


@dataclass(frozen=True)
class ChannelLayout:
    """What a recording says about its channels.

    Attributes:
        mask: Speakers as in WAVE_FORMAT_EXTENSIBLE, a bit for each, the lowest one for the first channel; 0 for
            channels that belong to no speaker.
        is_ambisonic: The channels are ambisonic B-format.
    """

    mask: int
    is_ambisonic: bool = False


def read_layout(path: Path) -> ChannelLayout | None:
    """Find out where the channels of a recording belong.

    Args:
        path: An existing file.

    Returns:
        The layout; None where the file states none.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(40)
        if head[:4] == b"fLaC":
            return _layout_of_flac(read_flac_comments(file))
        family = chunk_family(head)
        for chunk in chunks(file, family, size) if family else ():
            if chunk.name[:4] == b"fmt ":
                file.seek(chunk.start)
                return parse_layout(file.read(min(chunk.length, 40)))
            if chunk.is_sound:
                break
    return None


def write_layout(path: Path, layout: ChannelLayout) -> bool:
    """Put a layout into a WAV that libsndfile wrote with one of its own.

    Args:
        path: The file, of which some bytes are changed.
        layout: Where the channels belong.

    Returns:
        Whether the file has a place for it.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("rb+") as file:
        family = chunk_family(file.read(40))
        for chunk in chunks(file, family, path.stat().st_size) if family else ():
            if chunk.name[:4] == b"fmt ":
                file.seek(chunk.start)
                content = file.read(chunk.length)
                if parse_layout(content) is None:
                    return False
                tag, bits = struct.unpack_from("<H", content, 24)[0], struct.unpack_from("<H", content, 14)[0]
                file.seek(chunk.start + 16)
                file.write(format_extension(layout, tag, bits))
                return True
    return False


def parse_layout(content: bytes) -> ChannelLayout | None:
    """Find a layout in the `fmt ` chunk of a WAV.

    Args:
        content: The chunk's bytes.

    Returns:
        The layout; None where the chunk has no extension.
    """
    if len(content) < 40 or struct.unpack_from("<H", content)[0] != TAG_EXTENSIBLE:
        return None
    return ChannelLayout(struct.unpack_from("<I", content, 20)[0], content[26:40] == _AMBISONIC_GUID)


def format_extension(layout: ChannelLayout, tag: int, bits: int) -> bytes:
    """Make what follows the first 16 bytes of the `fmt ` chunk of a WAVE_FORMAT_EXTENSIBLE.

    Args:
        layout: Where the channels belong.
        tag: Number of the sample format, 1 for integers and 3 for floats.
        bits: Bits per sample.

    Returns:
        24 bytes.
    """
    guid = _AMBISONIC_GUID if layout.is_ambisonic else _PLAIN_GUID
    return struct.pack("<HHIH", 22, bits, layout.mask, tag) + guid


def flac_comment(layout: ChannelLayout) -> bytes:
    """Make the tag that gives a FLAC's layout.

    Args:
        layout: Where the channels belong.

    Returns:
        The tag.
    """
    return _FLAC_MASK + b"=0x%04X" % layout.mask


def _layout_of_flac(comments: tuple[bytes, ...]) -> ChannelLayout | None:
    for comment in comments:
        name, _, value = comment.partition(b"=")
        if name.upper() == _FLAC_MASK:
            try:
                mask = int(value, 0)
            except ValueError:
                return None
            return ChannelLayout(mask) if 0 <= mask < 2**32 else None
    return None
