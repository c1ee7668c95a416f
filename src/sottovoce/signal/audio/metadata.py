"""What a recording says beside its samples (tags, covers, chapters, markers), kept from file to file."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sottovoce.signal.audio.comments import (
    FLAC_COMMENTS,
    FLAC_PICTURE,
    FLAC_STRUCTURE,
    MAX_METADATA_BYTES,
    FlacBlock,
    flac_blocks,
    parse_comments,
    picture_comment,
    read_ogg_comments,
    replace_flac_blocks,
    replace_ogg_comments,
    take_pictures,
)
from sottovoce.signal.audio.containers import (
    AIFF,
    CAF,
    RIFF,
    W64,
    Family,
    chunk_family,
    chunks,
    id3_length,
    is_unknown_size,
)
from sottovoce.signal.audio.splicing import splice

TEXTS = ("title", "artist", "album", "date", "genre", "tracknumber", "comment", "copyright", "license")
"""Tags that nearly every kind of file has a place for, in soundfile's words."""

# Their names in the INFO list of a WAV.
_INFO = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "date": b"ICRD",
    "genre": b"IGNR",
    "tracknumber": b"ITRK",
    "comment": b"ICMT",
    "copyright": b"ICOP",
}
_MP3, _FLAC, _OGG = "MP3", "FLAC", "OGG"
# Chunks that describe the samples' bytes, which every writer makes for itself, and what fills gaps.
_STRUCTURE = {
    *(b"fmt ", b"fact", b"data", b"ds64", b"PEAK", b"levl", b"JUNK", b"junk", b"PAD ", b"FLLR"),
    *(b"COMM", b"SSND", b"FVER", b"desc", b"pakt", b"kuki", b"free", b"peak", b"ovvw"),
}
_LAYOUT_CHUNKS = {b"CHAN", b"chan"}
_ID3_CHUNKS = {RIFF.name: b"id3 ", AIFF.name: b"ID3 "}
# What libsndfile reads as texts.
_TEXT_PARTS = {b"LIST INFO", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"info", b"TAG"}
_TEXT_FRAMES = {b"TIT2", b"TPE1", b"TALB", b"TDRC", b"TYER", b"TCON", b"TRCK", b"COMM", b"TCOP", b"TSSE", b"TLEN"}
_TEXT_COMMENTS = {*(name.upper().encode() for name in TEXTS), b"ENCODER", b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK"}
_WORDS = {
    b"APIC": "cover",
    b"CHAP": "chapters",
    b"CTOC": "chapters",
    b"USLT": "lyrics",
    b"SYLT": "lyrics",
    b"LIST adtl": "labels",
    b"cue ": "cue points",
    b"smpl": "loops",
    b"MARK": "markers",
    b"APETAGEX": "APE tag",
}
_FLAC_WORDS = {2: "application data", 5: "cue sheet"}
# Where the version of a bext chunk is, and its five measures of loudness; and how these say that nobody measured.
_BEXT_VERSION_AT, _BEXT_LOUDNESS_AT, _BEXT_UNMEASURED = 346, 412, b"\xff\x7f" * 5


class Part(NamedTuple):
    """A piece of metadata that only one kind of file has a place for.

    Attributes:
        name: Name of a chunk, or the beginning of a tag.
        content: Its bytes.
        leads: Whether it stands before the samples.
    """

    name: bytes
    content: bytes
    leads: bool = True


@dataclass(frozen=True)
class Metadata:
    """What a recording says beside its samples, in at most `MAX_METADATA_BYTES`.

    Attributes:
        family: The kind of file that has a place for `parts` and `blocks`: RIFF, AIFF, W64, CAF, MP3, FLAC or OGG.
        parts: Chunks and tags as they are.
        blocks: Blocks of a FLAC's header as they are.
        id3: An ID3v2 tag, which MP3, WAV and AIFF have a place for.
        comments: Vorbis comments, which FLAC and Ogg have a place for, without pictures.
        pictures: Covers as the content of a FLAC's picture block, which Ogg has a place for, too.
        texts: Tags by their names in `TEXTS`, for the other kinds.
        unkept: What has a place nowhere, or could not be read, in words.
    """

    family: str = ""
    parts: tuple[Part, ...] = ()
    blocks: tuple[FlacBlock, ...] = ()
    id3: bytes = b""
    comments: tuple[bytes, ...] = ()
    pictures: tuple[bytes, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    unkept: tuple[str, ...] = ()

    def layout_only(self) -> "Metadata":
        """Keep nothing but what says where the channels belong."""
        return Metadata(self.family, tuple(part for part in self.parts if part.name[:4] in _LAYOUT_CHUNKS))

    def with_comment(self, comment: bytes) -> "Metadata":
        """Add a Vorbis comment, such as b"TITLE=Interview", unless there is one of its name."""
        names = {other.partition(b"=")[0].upper() for other in self.comments}
        is_new = comment.partition(b"=")[0].upper() not in names
        return replace(self, comments=(*self.comments, comment)) if is_new else self

    def chunks_for(self, family: str) -> list[Part]:
        """List what stands in chunks of a file.

        Args:
            family: Its kind: RIFF, AIFF, W64 or CAF.
        """
        parts = list(self.parts) if family == self.family else []
        if family == RIFF.name and family != self.family and self.texts:
            parts.append(_info_list(self.texts))
        if self.id3 and family in _ID3_CHUNKS:
            parts.append(Part(_ID3_CHUNKS[family], self.id3, leads=False))
        return parts

    def texts_for(self, kind: str) -> Mapping[str, str]:
        """List the tags that a file gets through libsndfile: all, where it has no place for them as they are.

        Args:
            kind: Kind of file in libsndfile's words.
        """
        family = _family_name(kind)
        return {} if family in (self.family, RIFF.name) or (family == _MP3 and self.id3) else self.texts

    def lost_in(self, kind: str) -> list[str]:
        """Name what a kind of file has no place for, and what could not be read.

        Args:
            kind: Kind of file in libsndfile's words.

        Returns:
            Names, such as "cover" and "bext".
        """
        family = _family_name(kind)
        lost: list[str] = []
        if family != self.family:
            keys = [b"LIST " + part.content[:4] if part.name == b"LIST" else part.name for part in self.parts]
            lost += [_word(key) for key in keys if key not in _TEXT_PARTS]
            lost += [_FLAC_WORDS.get(block.kind, f"block {block.kind}") for block in self.blocks]
        if family not in (_MP3, *_ID3_CHUNKS):
            lost += [_word(frame) for frame in _id3_frames(self.id3) if frame not in _TEXT_FRAMES]
        if family not in (_FLAC, _OGG):
            keys = [comment.partition(b"=")[0].upper() for comment in self.comments]
            lost += [_word(key) for key in keys if key not in _TEXT_COMMENTS]
            lost += ["cover"] * bool(self.pictures)
        return list(dict.fromkeys((*lost, *self.unkept)))


def read_parts(path: Path) -> Metadata:
    """Read what a recording says beside its samples, as it stands there.

    Args:
        path: A sound file that libsndfile reads.

    Returns:
        Everything but `texts`, which libsndfile reads.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(40)
        family = chunk_family(head)
        if family is not None:
            return _read_chunks(file, family, size)
        if head[:4] == b"fLaC":
            return _read_flac(file)
        if head[:4] == b"OggS":
            return _read_ogg(file)
        if head[:3] == b"ID3" or head[:1] == b"\xff":
            return _read_mp3(file, size)
    return Metadata()


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Put metadata into a finished sound file; what its kind has no place for is left out.

    Args:
        path: The file, which is changed in place.
        metadata: What it shall say.

    Raises:
        OSError: The file cannot be read or written.
    """
    with path.open("rb") as file:
        head = file.read(40)
    family = chunk_family(head)
    if family is not None:
        _insert_chunks(path, family, metadata.chunks_for(family.name))
    elif head[:4] == b"fLaC":
        pictures = [FlacBlock(FLAC_PICTURE, picture) for picture in metadata.pictures]
        if metadata.comments or metadata.blocks or pictures:
            replace_flac_blocks(path, metadata.comments, (*metadata.blocks, *pictures))
    elif head[:4] == b"OggS":
        comments = (*metadata.comments, *map(picture_comment, metadata.pictures))
        if comments:
            replace_ogg_comments(path, comments)
    elif head[:3] == b"ID3" or head[:1] == b"\xff":
        splice(path, 0, 0, metadata.id3)
        if metadata.family == _MP3:
            with path.open("ab") as file:
                file.write(b"".join(part.content for part in metadata.parts))


def clear_peak_time(path: Path) -> None:
    """Take the time of writing out of a file of floating-point samples: equal sound then gives equal files.

    libsndfile puts it into the chunk that names the highest sample.

    Args:
        path: A file that libsndfile wrote, of which some bytes are changed.

    Raises:
        OSError: It cannot be read or written.
    """
    with path.open("rb+") as file:
        family = chunk_family(file.read(40))
        for chunk in chunks(file, family, path.stat().st_size) if family in (RIFF, AIFF) else ():
            if chunk.name == b"PEAK":
                file.seek(chunk.start + 4)
                file.write(bytes(4))


def from_chunks(family: str, parts: Iterable[Part], unkept: Iterable[str] = ()) -> Metadata:
    """Make metadata of a file's chunks.

    Args:
        family: Kind of file: RIFF, AIFF, W64 or CAF.
        parts: All its chunks, of which those that describe the samples' bytes are left out.
        unkept: What could not be read, in words.

    Returns:
        What they say.
    """
    kept, id3 = [], b""
    for part in parts:
        if part.name == _ID3_CHUNKS.get(family) and id3_length(part.content[:10]):
            id3 = part.content[: id3_length(part.content[:10])]
        elif part.name[:4] == b"bext":
            kept.append(part._replace(content=_without_loudness(part.content)))
        elif part.name[:4] not in _STRUCTURE:
            kept.append(part)
    return Metadata(family, tuple(kept), id3=id3, unkept=tuple(unkept))


def pack_chunks(family: Family, parts: Iterable[Part]) -> bytes:
    """Join chunks as they stand in a file.

    Args:
        family: How its chunks lie.
        parts: The chunks.

    Returns:
        Their bytes with headers, and filled up where the next one begins at a multiple of some bytes.
    """
    packed = b""
    for name, content, _ in parts:
        length = len(content) + (family.header.size if family.counts_header else 0)
        packed += family.header.pack(name, length) + content + bytes(family.padding(len(content)))
    return packed


def _family_name(kind: str) -> str:
    return RIFF.name if kind in ("WAV", "WAVEX", "RF64") else kind


def _word(name: bytes) -> str:
    readable = name[:4] if len(name) == 16 else name
    return _WORDS.get(readable) or readable.decode("latin-1").strip(" \0")


def _info_list(texts: Mapping[str, str]) -> Part:
    items = [Part(_INFO[name], text.encode() + b"\0") for name, text in texts.items() if name in _INFO]
    return Part(b"LIST", b"INFO" + pack_chunks(RIFF, items))


def _without_loudness(content: bytes) -> bytes:
    """A bext chunk that says of no loudness: what was measured is not that of the enhanced sound."""
    end = _BEXT_LOUDNESS_AT + len(_BEXT_UNMEASURED)
    if len(content) < end or int.from_bytes(content[_BEXT_VERSION_AT : _BEXT_VERSION_AT + 2], "little") < 2:
        return content
    return content[:_BEXT_LOUDNESS_AT] + _BEXT_UNMEASURED + content[end:]


def _read_chunks(file: BinaryIO, family: Family, size: int) -> Metadata:
    parts: list[Part] = []
    unkept: list[str] = []
    taken, leads = 0, True
    for chunk in chunks(file, family, size):
        if chunk.is_sound:
            leads = False
            if is_unknown_size(chunk.length):
                break
        elif chunk.name[:4] not in _STRUCTURE:
            if chunk.start + chunk.length > size or taken + chunk.length > MAX_METADATA_BYTES:
                unkept.append(_too_large(_word(chunk.name), chunk.length))
                continue
            taken += chunk.length
            file.seek(chunk.start)
            parts.append(Part(chunk.name, file.read(chunk.length), leads))
    return from_chunks(family.name, parts, unkept)


def _too_large(name: str, length: int) -> str:
    return f"{name} of {length} bytes"


def _insert_chunks(path: Path, family: Family, parts: list[Part]) -> None:
    """Put chunks before the sound of a finished file and behind it."""
    if not parts:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        is_rf64 = file.read(4) == b"RF64"
        first, *_ = found = list(chunks(file, family, size))
    # An RF64 begins with its sizes, a CAF with what its samples are.
    start = first.start + first.length if is_rf64 or family is CAF else family.first
    sound_end = found[-1].start + found[-1].length
    if is_rf64:
        # libsndfile finds no samples behind a chunk of odd length.
        parts = [part._replace(content=part.content + bytes(len(part.content) % 2)) for part in parts]
    # libsndfile takes what stands behind the samples of a W64 for samples.
    leads = [part.leads or family is W64 for part in parts]
    leading = pack_chunks(family, [part for part, is_first in zip(parts, leads, strict=True) if is_first])
    trailing = pack_chunks(family, [part for part, is_first in zip(parts, leads, strict=True) if not is_first])
    if trailing:
        # libsndfile fills up a CAF, too, whose chunks begin anywhere.
        trailing = bytes(family.padding(sound_end - family.first)) + trailing
        splice(path, sound_end, size, trailing)
        size = sound_end + len(trailing)
    splice(path, start, start, leading)
    size += len(leading)
    with path.open("rb+") as file:
        if family is W64:
            file.seek(16)
            file.write(struct.pack("<Q", size))
        elif is_rf64:
            file.seek(20)
            file.write(struct.pack("<Q", size - 8))
        elif family is not CAF:
            file.seek(4)
            file.write(struct.pack("<I" if family is RIFF else ">I", size - 8))


def _read_flac(file: BinaryIO) -> Metadata:
    blocks, _, skipped = flac_blocks(file)
    return Metadata(
        _FLAC,
        blocks=tuple(block for block in blocks if block.kind not in (*FLAC_STRUCTURE, FLAC_COMMENTS, FLAC_PICTURE)),
        comments=tuple(
            comment for block in blocks if block.kind == FLAC_COMMENTS for comment in parse_comments(block.content)
        ),
        pictures=tuple(block.content for block in blocks if block.kind == FLAC_PICTURE),
        unkept=(_too_large("a part", skipped),) if skipped else (),
    )


def _read_ogg(file: BinaryIO) -> Metadata:
    comments = read_ogg_comments(file)
    if comments is None:
        return Metadata(_OGG, unkept=("tags that are damaged or too large",))
    comments, pictures = take_pictures(comments)
    return Metadata(_OGG, comments=comments, pictures=pictures)


def _read_mp3(file: BinaryIO, size: int) -> Metadata:
    """Tags before and behind the frames."""
    unkept, id3 = [], b""
    file.seek(0)
    length = id3_length(file.read(10))
    if length > min(size, MAX_METADATA_BYTES):
        unkept.append(_too_large("ID3 tag", length))
    elif length:
        file.seek(0)
        id3 = file.read(length)
    parts: list[Part] = []
    end = size
    file.seek(max(0, end - 128))
    tag = file.read(128)
    if tag[:3] == b"TAG":
        parts.append(Part(b"TAG", tag, leads=False))
        end -= 128
    file.seek(max(0, end - 32))
    footer = file.read(32)
    if footer[:8] == b"APETAGEX":
        length = int.from_bytes(footer[12:16], "little") + 32 * (footer[23] >> 7)
        if length + len(id3) > MAX_METADATA_BYTES or length > end:
            unkept.append(_too_large("APE tag", length))
        else:
            file.seek(end - length)
            parts.insert(0, Part(b"APETAGEX", file.read(length), leads=False))
    return Metadata(_MP3, tuple(parts), id3=id3, unkept=tuple(unkept))


def _id3_frames(tag: bytes) -> list[bytes]:
    """Names of the frames of an ID3v2.3 or 2.4 tag."""
    names: list[bytes] = []
    position = 10
    while position + 10 <= len(tag) and tag[position : position + 4].isalnum():
        names.append(tag[position : position + 4])
        size = tag[position + 4 : position + 8]
        is_syncsafe = tag[3] >= 4
        length = sum(byte << (7 if is_syncsafe else 8) * (3 - index) for index, byte in enumerate(size))
        position += 10 + length
    return names
