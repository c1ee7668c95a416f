"""Sound files that libsndfile does not read, by way of PyAV."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sottovoce.errors import AudioError
from sottovoce.signal.audio.formats import PYAV_SUFFIXES, AudioInfo, Float32Array, damaged
from sottovoce.signal.audio.metadata import TEXTS, Metadata

# How MP4 (with the name of its first box), Matroska, Windows Media and AAC begin.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_BEGINNINGS = (b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"\xff\xf1", b"\xff\xf9")


# Tags in ffmpeg's words, where soundfile has others; and those that describe the file.
_TEXT_NAMES = {"track": "tracknumber", "creation_time": "date"}
_TECHNICAL_TAGS = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "handler_name", "vendor_id", "language"),
    *("duration", "itunsmpb", "itunnorm", "wmfsdkversion", "wmfsdkneeded", "isvbr"),
}


def recognises(path: Path) -> bool:
    """Say whether a file is of a kind that PyAV reads and libsndfile does not, whatever its name.

    Args:
        path: An existing file.

    Returns:
        False also for kinds that nobody reads.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:] in _MP4_BOXES or head.startswith(_BEGINNINGS)


def probe(path: Path) -> AudioInfo:
    """Find out what a recording is.

    Args:
        path: An existing file.

    Returns:
        Format, rate, channels and length; the length is that of the packets, which may differ from the samples'.

    Raises:
        AudioError: PyAV is not installed, or the file is damaged or holds no sound track.
    """
    if find_spec("av") is None:
        raise AudioError(
            f"{path} needs a decoder that is not installed: run `pip install 'sottovoce[av]'`, or convert it "
            f"first with `ffmpeg -i {path.name} out.wav`"
        )
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise AudioError(f"{path} holds no sound track, expected one: check the name")
            stream = container.streams.audio[0]
            rate, channels, codec = stream.rate, stream.channels, stream.codec_context.name
            # Files of browsers have no duration in their header.
            seconds, size = 0.0, 0
            for packet in container.demux(stream):
                if packet.duration and packet.time_base:
                    seconds += float(packet.duration * packet.time_base)
                size += packet.size
            kind = path.suffix[1:] if path.suffix.lower() in PYAV_SUFFIXES else container.format.name.partition(",")[0]
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"{path} is not a sound file that can be read, or it is cut or damaged ({error.strerror}): copy it again"
        ) from error
    bit_rate = 8 * size / seconds if seconds else 0.0
    return AudioInfo(
        path,
        rate,
        channels,
        round(seconds * rate),
        kind.upper(),
        codec.upper(),
        bit_rate=bit_rate,
        needs_pyav=True,
    )


def read_metadata(path: Path) -> Metadata:
    """Read what a recording says beside its samples.

    Args:
        path: A recording that PyAV reads.

    Returns:
        Its tags, and the names of what cannot be taken from it.

    Raises:
        AudioError: The recording is damaged.
    """
    import av

    try:
        with av.open(str(path)) as container:
            found = {**container.streams.audio[0].metadata, **container.metadata}
            has_cover = any(
                stream.disposition & av.stream.Disposition.attached_pic for stream in container.streams.video
            )
            has_chapters = bool(container.chapters())
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}): copy it again") from error
    tags = {_TEXT_NAMES.get(name.lower(), name.lower()): text for name, text in found.items() if text}
    unkept = ["cover"] * has_cover + ["chapters"] * has_chapters
    unkept += [name for name in tags if name not in (*TEXTS, *_TECHNICAL_TAGS)]
    return Metadata(texts={name: tags[name] for name in TEXTS if name in tags}, unkept=tuple(unkept))


def decode(info: AudioInfo, start: int, frames: int | None) -> Iterator[Float32Array]:
    """Decode a part of a recording; it is reached by decoding what is before it, which is exact for every codec.

    Args:
        info: A recording that PyAV reads.
        start: First sample.
        frames: Samples per channel; None for all that are left.

    Yields:
        Pieces `(channels, n)` as the codec makes them, full scale ±1.

    Raises:
        AudioError: The recording is damaged.
    """
    import av

    end = None if frames is None else start + frames
    position = 0
    try:
        with av.open(str(info.path)) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=info.sample_rate)
            for frame in container.decode(stream):
                for planes in resampler.resample(frame):
                    samples = planes.to_ndarray().astype(np.float32, copy=False)
                    yield samples[:, max(0, start - position) : None if end is None else max(0, end - position)]
                    position += samples.shape[1]
                if end is not None and position >= end:
                    break
    except (av.FFmpegError, OSError) as error:
        raise damaged(info, max(0, info.frames - position)) from error


def regroup(pieces: Iterable[Float32Array], block_frames: int) -> Iterator[Float32Array]:
    """Join and cut pieces to blocks of one length.

    Args:
        pieces: Arrays `(channels, n)`.
        block_frames: Samples per channel of a block.

    Yields:
        Blocks `(channels, block_frames)`; the last may be shorter.
    """
    waiting: list[Float32Array] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += piece.shape[1]
        if count >= block_frames:
            joined = np.concatenate(waiting, axis=1)
            whole = count - count % block_frames
            yield from np.split(joined[:, :whole], whole // block_frames, axis=1)
            waiting, count = [joined[:, whole:]], count - whole
    if count:
        yield np.concatenate(waiting, axis=1)
