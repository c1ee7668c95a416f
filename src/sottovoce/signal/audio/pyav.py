"""Sound files that libsndfile does not read, by way of PyAV."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sottovoce.errors import AudioError, UnknownFormatError
from sottovoce.signal.audio.formats import PYAV_SUFFIXES, AudioInfo, Float32Array, damaged
from sottovoce.signal.audio.metadata import TEXTS, Metadata

if TYPE_CHECKING:
    from av import AudioFrame, AudioLayout, Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

# Timestamps in whole milliseconds, and those of browsers, are this inexact; less than a frame of AAC that is lost.
_JITTER_SECONDS = 0.02
# A longer hole is a timestamp that is wrong.
_MAX_HOLE_SECONDS = 3600.0
_SILENCE_FRAMES = 65536
_MICROSECONDS = 1_000_000
# How MP4 begins (with the name of its first box), and other kinds: Matroska, Windows Media, AAC, AC-3, DTS, MPEG film,
# Flash, RealMedia, AMR, Monkey's Audio, WavPack, True Audio, Musepack and DSD.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_BEGINNINGS = (
    *(b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"\xff\xf1", b"\xff\xf9", b"\x0bw", b"\x7f\xfe\x80\x01"),
    *(b"\0\0\x01\xba", b"FLV\x01", b".RMF", b"#!AMR", b"MAC ", b"wvpk", b"TTA1", b"MPCK", b"MP+", b"DSD "),
)


# FFmpeg reads playlists, lists of pictures and more, which name other files or addresses for it to open: from whatever
# is called .mp4. These kinds hold their sound themselves.
_DEMUXERS = (
    *("aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "avi", "caf", "dsf", "dts", "dtshd", "eac3", "flac"),
    *("flv", "loas", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "ogg", "rm", "tta", "w64"),
    *("wav", "wv"),
)
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
        head = file.read(12)
    is_avi = head[:4] == b"RIFF" and head[8:] == b"AVI "
    return is_avi or head[4:8] in _MP4_BOXES or head.startswith(_BEGINNINGS)


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
        raise UnknownFormatError(
            f"{path} needs a decoder that is not installed: run `pip install 'sottovoce[av]'`, or convert it "
            f"first with `ffmpeg -i {path.name} out.wav`"
        )
    import av

    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise UnknownFormatError(f"{path} holds no sound track, expected one: check the name")
            stream = choose_track(container)
            rate, channels, codec = stream.rate, stream.channels, stream.codec_context.name
            # Files of browsers have no duration in their header.
            clock, sound_seconds, size = _Clock(container), 0.0, 0
            for packet in container.demux(stream):
                duration_seconds = float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
                if packet.size:
                    clock.advance(packet, duration_seconds)
                sound_seconds += duration_seconds
                size += packet.size
            kind = path.suffix[1:] if path.suffix.lower() in PYAV_SUFFIXES else container.format.name.partition(",")[0]
    except (av.FFmpegError, OSError) as error:
        raise UnknownFormatError(
            f"{path} is not a sound file that can be read, or it is cut or damaged ({error.strerror}): copy it again"
        ) from error
    bit_rate = 8 * size / sound_seconds if sound_seconds else 0.0
    return AudioInfo(
        path,
        rate,
        channels,
        round(clock.seconds * rate),
        kind.upper(),
        codec.upper(),
        bit_rate=bit_rate,
        needs_pyav=True,
    )


def open_container(path: Path) -> "InputContainer":
    """Open a file of a kind that holds its sound itself.

    Args:
        path: An existing file.

    Returns:
        The open container, a context manager.

    Raises:
        av.FFmpegError: It is damaged, or of another kind.
        OSError: It cannot be read.
    """
    import av

    return av.open(str(path), options={"format_whitelist": ",".join(_DEMUXERS)})


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
        with open_container(path) as container:
            found = {**choose_track(container).metadata, **container.metadata}
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


def choose_track(container: "InputContainer") -> "AudioStream":
    """Choose the sound track that a player would play.

    Args:
        container: A file with one sound track at least.

    Returns:
        The first track that is marked as default; the first one if none is.
    """
    from av.stream import Disposition

    tracks = container.streams.audio
    return next((track for track in tracks if Disposition.default in track.disposition), tracks[0])


def decode(info: AudioInfo, start: int, frames: int | None) -> Iterator[Float32Array]:
    """Decode a part of a recording; it is reached by decoding what is before it, which is exact for every codec.

    Sound stays in time with the picture: there is silence where it begins later, and where its timestamps leave holes.

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
        with open_container(info.path) as container:
            stream = choose_track(container)
            _say_which(info.path, container.streams.audio, stream)
            for samples in _in_time(info, container, stream):
                yield samples[:, max(0, start - position) : None if end is None else max(0, end - position)]
                position += samples.shape[1]
                if end is not None and position >= end:
                    break
    except (av.FFmpegError, OSError) as error:
        raise damaged(info, max(0, info.frames - position)) from error


def _say_which(path: Path, tracks: "Sequence[AudioStream]", chosen: "AudioStream") -> None:
    if len(tracks) > 1:
        language = chosen.metadata.get("language", "und")
        log.warning(
            "%s has %d sound tracks: number %d%s is enhanced, as a player would play it",
            path,
            len(tracks),
            1 + tracks.index(chosen),
            "" if language == "und" else f" ({language})",
        )


def _in_time(info: AudioInfo, container: "InputContainer", stream: "AudioStream") -> Iterator[Float32Array]:
    """Samples of a track from the beginning of its container on, with silence where it has none."""
    clock, floats = _Clock(container), _Floats(info.sample_rate, stream.layout)
    for frame in container.decode(stream):
        hole = round(clock.advance(frame, frame.samples / frame.sample_rate) * info.sample_rate)
        if hole:
            yield from floats.end()
            silence = np.zeros((info.channels, min(hole, _SILENCE_FRAMES)), np.float32)
            for begin in range(0, hole, _SILENCE_FRAMES):
                yield silence[:, : hole - begin]
        yield from floats.push(frame)
    yield from floats.end()
    if clock.jumped_seconds:
        log.warning(
            "%s: its timestamps jump by %.1f hours, which was taken for damage: behind that, sound and picture may be "
            "apart",
            info.path,
            clock.jumped_seconds / 3600,
        )


class _Clock:
    """Where the sound of a track is, in seconds from the beginning of its container.

    Args:
        container: The file. The first timestamp of any of its tracks is its beginning.

    Attributes:
        seconds: Where the sound is.
        jumped_seconds: Length of holes that were taken for damage.
    """

    def __init__(self, container: "InputContainer") -> None:
        self._beginning_seconds = (container.start_time or 0) / _MICROSECONDS
        self.seconds = 0.0
        self.jumped_seconds = 0.0
        self._is_first = True

    def advance(self, piece: "Packet[AudioStream] | AudioFrame", duration_seconds: float) -> float:
        """Take the next piece of the track.

        Args:
            piece: What has a timestamp.
            duration_seconds: Its length.

        Returns:
            Seconds of silence that belong before it; 0 where timestamps overlap, as sound is not thrown away.
        """
        hole_seconds = 0.0
        if piece.pts is not None and piece.time_base is not None:
            begins_seconds = float(piece.pts * piece.time_base) - self._beginning_seconds - self.jumped_seconds
            if self._is_first:
                # What an encoder needs to start is before the beginning.
                self.seconds = min(begins_seconds, 0.0)
            hole_seconds = begins_seconds - self.seconds
            if hole_seconds > _MAX_HOLE_SECONDS:
                self.jumped_seconds += hole_seconds
                hole_seconds = 0.0
            elif hole_seconds < (0.0 if self._is_first else _JITTER_SECONDS):
                hole_seconds = 0.0
        self._is_first = False
        self.seconds += hole_seconds + duration_seconds
        return hole_seconds


class _Floats:
    """Makes float32 samples of frames, whose sample format, rate and channels may change within a track.

    Args:
        sample_rate: Rate to make, in Hz.
        layout: Channels to make.
    """

    def __init__(self, sample_rate: int, layout: "AudioLayout") -> None:
        self._sample_rate = sample_rate
        self._layout = layout
        self._channels = layout.nb_channels
        self._kind: tuple[str, str, int] | None = None

    def push(self, frame: "AudioFrame") -> Iterator[Float32Array]:
        import av

        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind:
            yield from self.end()
            self._resampler = av.AudioResampler(format="flt", layout=self._layout, rate=self._sample_rate)
            self._kind = kind
        yield from self._arrays(frame)

    def end(self) -> Iterator[Float32Array]:
        """Give what waits within; the next frame begins again."""
        if self._kind is not None:
            yield from self._arrays(None)
            self._kind = None

    def _arrays(self, frame: "AudioFrame | None") -> Iterator[Float32Array]:
        for packed in self._resampler.resample(frame):
            # In one plane, as PyAV takes 8 planes for 9.
            yield np.asarray(packed.to_ndarray(), np.float32).reshape(-1, self._channels).T


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
