"""Sound files that libsndfile does not write, and films with another sound, by way of PyAV."""

import contextlib
import errno
import logging
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from sottovoce.atomic import temporary_beside
from sottovoce.errors import AudioError
from sottovoce.signal.audio import pyav
from sottovoce.signal.audio.formats import AUDIO_SUFFIXES, AudioInfo, kinds_for, listing
from sottovoce.signal.audio.metadata import Metadata
from sottovoce.signal.audio.targets import (
    LOSSY_PEAK,
    disk_error,
    limit,
    nothing_to_write,
    put_in_place,
    refuse_existing,
    require_block,
    unwritable,
    warn_limited,
    warn_unkept,
)
from sottovoce.signal.audio.writing import Writer
from sottovoce.signal.output import OutputOptions

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

log = logging.getLogger(__name__)


class _Kind(NamedTuple):
    """A kind of file.

    Attributes:
        container: FFmpeg's name for it.
        encoder: FFmpeg's name for the encoder of its sound.
        rates_hz: Rates of that.
        takes_pictures: Whether it has a place for pictures.
        lossless: Codecs that are kept if the recording has one.
    """

    container: str
    encoder: str
    rates_hz: tuple[int, ...]
    takes_pictures: bool
    lossless: tuple[str, ...] = ()


_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
_PCM = ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_s16be", "pcm_s24be", "pcm_s32be")
_KINDS = {
    ".m4a": _Kind("ipod", "aac", _AAC_RATES_HZ, False, ("alac",)),
    ".m4b": _Kind("ipod", "aac", _AAC_RATES_HZ, False, ("alac",)),
    ".aac": _Kind("adts", "aac", _AAC_RATES_HZ, False),
    ".mp4": _Kind("mp4", "aac", _AAC_RATES_HZ, True, ("alac",)),
    ".m4v": _Kind("mp4", "aac", _AAC_RATES_HZ, True, ("alac",)),
    ".3gp": _Kind("3gp", "aac", _AAC_RATES_HZ, True),
    ".3g2": _Kind("3g2", "aac", _AAC_RATES_HZ, True),
    ".mov": _Kind("mov", "aac", _AAC_RATES_HZ, True, ("alac", *_PCM)),
    ".mkv": _Kind("matroska", "aac", _AAC_RATES_HZ, True, ("flac", "alac", *_PCM)),
    ".mka": _Kind("matroska", "aac", _AAC_RATES_HZ, False, ("flac", "alac", *_PCM)),
    ".webm": _Kind("webm", "libopus", _OPUS_RATES_HZ, True),
    ".weba": _Kind("webm", "libopus", _OPUS_RATES_HZ, False),
}
MEDIA_SUFFIXES = tuple(_KINDS)
"""File names' endings that are written when PyAV is installed."""

# By the number of channels, in the order of WAV.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# For each channel in kbit/s: without a word about it, and the least and most that a quality of 0 to 1 stands for.
_DEFAULT_KBPS, _QUALITY_KBPS = 64, (16, 160)
# AAC has no room for more bits per sample of a channel; and what libopus takes for a channel.
_AAC_BITS_PER_SAMPLE, _OPUS_BIT_RATES = 6, (6_000, 256_000)
# Packets that wait in the muxer for those of a track that has few, such as subtitles.
_OPTIONS = {"max_interleave_delta": "1000000"}
_MICROSECONDS = 1_000_000
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
# Some tracks are refused only when the file begins, all together: then it begins with fewer.
_KEPT_KINDS = (
    ("video", "audio", "subtitle", "attachment"),
    ("video", "audio", "subtitle"),
    ("video", "audio"),
    ("video",),
)
# An encoder's frame more or less is not worth a word, neither at the end of a file nor between its tracks.
_SLACK_SECONDS = 0.1
# What a container says about itself.
_OWN_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "ENCODER", "duration", "DURATION"}
# What the track of the new sound keeps of what that of the old one says.
_TRACK_TAGS = {"language", "title", "handler_name"}


def written_suffix(suffix: str) -> str:
    """Say how the name of an enhanced recording ends.

    Args:
        suffix: How the name of the recording ends, with the dot.

    Returns:
        The same, or `.wav` for a kind of file that is read and not written.
    """
    return suffix if suffix.lower() in (*AUDIO_SUFFIXES, *MEDIA_SUFFIXES) else ".wav"


def open_writer(
    path: Path,
    info: AudioInfo,
    *,
    metadata: Metadata | None = None,
    options: OutputOptions | None = None,
    overwrite: bool = False,
) -> "Writer | MediaWriter":
    """Choose what writes a kind of file.

    Args:
        path: The file to write; its suffix sets the kind.
        info: The recording whose sound is to be replaced; rate, channels, and what else the kind allows, are kept.
        metadata: What the file says beside its samples.
        options: Whether metadata is kept, and the quality of a lossy file.
        overwrite: Replace an existing file.

    Returns:
        A writer, to be entered as a context manager.

    Raises:
        AudioError: As of `Writer` and `MediaWriter`.
    """
    make = MediaWriter if path.suffix.lower() in _KINDS else Writer
    return make(
        path,
        info.sample_rate,
        info.channels,
        like=info,
        metadata=metadata,
        options=options,
        overwrite=overwrite,
    )


class MediaWriter:
    """Writes sound as AAC or Opus block by block, as a context manager; the file appears whole or not at all.

    Lossless sound stays lossless where the kind of file has a place for its codec.

    Where the kind of file has a place for pictures and `like` is a film, its other tracks are copied as they are, so
    that only the sound is new. Packets are copied as far as the sound has come, which bounds the memory.

    Args:
        path: The file to write; its suffix sets the kind.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        like: The recording whose sound is replaced: its bit rate, tags and, of a film, other tracks are kept.
        metadata: What the recording says beside its samples, where PyAV does not read it.
        options: Whether metadata is kept, and the bit rate.
        overwrite: Replace an existing file.

    Raises:
        AudioError: PyAV is not installed, the kind of file cannot hold the rate or the channels, the file exists, or it
            cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        sample_rate: int,
        channels: int,
        *,
        like: AudioInfo | None = None,
        metadata: Metadata | None = None,
        options: OutputOptions | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self._kind = _KINDS[self.path.suffix.lower()]
        codec = like.subtype.lower() if like is not None else ""
        self._lossless = codec if codec in self._kind.lossless else None
        self._options = options or OutputOptions()
        self._metadata = metadata or Metadata()
        self._source = like.path if like is not None and like.needs_pyav else None
        self._bit_rate = _choose_bit_rate(self._kind, sample_rate, channels, like, self._options)
        self._overwrite = overwrite
        self._frames = self._limited = 0
        self._unkept: list[str] = []
        if find_spec("av") is None:
            raise AudioError(
                f"cannot write {self.path}: its encoder is not installed; run `pip install 'sottovoce[av]'`, or write "
                ".wav or .flac"
            )
        if channels not in _LAYOUTS or (self._lossless is None and sample_rate not in self._kind.rates_hz):
            raise AudioError(
                f"cannot write {self.path}: found {sample_rate} Hz and {channels} channels, expected "
                f"{listing(self._kind.rates_hz)} Hz and at most {max(_LAYOUTS)} channels for this kind of file; write "
                f"{listing(kinds_for(sample_rate, channels))}"
            )
        refuse_existing(self.path, overwrite=overwrite)

    def __enter__(self) -> Self:
        import av

        try:
            with contextlib.ExitStack() as stack:
                self._part = temporary_beside(self.path)
                self._part.touch(exist_ok=False)
                stack.callback(self._part.unlink, missing_ok=True)
                source = None if self._source is None else stack.enter_context(pyav.open_container(self._source))
                self._begin(source)
                self._opened = stack.pop_all()
        except (av.FFmpegError, OSError) as error:
            raise unwritable(self.path, error) from error
        except ValueError as error:
            raise AudioError(f"cannot write {self.path} ({error}): write .mkv or .mp4") from error
        return self

    def write(self, block: NDArray[np.floating]) -> None:
        """Append samples.

        Args:
            block: Samples `(channels, n)`, full scale ±1.

        Raises:
            AudioError: The disk does not take them.
            ValueError: The block has another shape.
        """
        from fractions import Fraction

        import av

        require_block(block, self.channels)
        if block.shape[1] == 0:
            return
        samples, count = limit(block, self._peak)
        self._limited += count
        # PyAV takes 8 planes for 9.
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=self._sound.layout)
        frame.sample_rate, frame.pts, frame.time_base = self.sample_rate, self._frames, Fraction(1, self.sample_rate)
        try:
            self._mux(self._sound.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        self._frames += block.shape[1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import av

        with self._opened:
            if kind is not None:
                with contextlib.suppress(av.FFmpegError, OSError):
                    self._output.close()
                return
            if self._frames == 0:
                self._output.close()
                raise nothing_to_write(self.path)
            try:
                self._mux(self._sound.encode(None))
                self._others.copy_until(None)
                self._output.close()
                seconds = pyav.probe(self._part).seconds
            except (av.FFmpegError, OSError) as failure:
                raise self._failure(failure) from failure
            except AudioError as failure:
                raise disk_error(self.path, self._frames / self.sample_rate) from failure
            # An encoder may notice only while it closes, and say nothing, that the disk took no more.
            if seconds < self._frames / self.sample_rate - _SLACK_SECONDS:
                raise disk_error(self.path, self._frames / self.sample_rate)
            put_in_place(self._part, self.path, overwrite=self._overwrite)
            warn_unkept(self.path, self._unkept)
            warn_limited(self.path, self._limited, self._peak)

    @property
    def _peak(self) -> int:
        return LOSSY_PEAK if self._lossless is None else 1

    def _failure(self, error: Exception) -> AudioError:
        if getattr(error, "errno", None) in _DISK_ERRORS:
            return disk_error(self.path, self._frames / self.sample_rate)
        reason = getattr(error, "strerror", None) or error
        return AudioError(f"cannot write {self.path} ({reason}): name another kind of file, such as .mkv or .wav")

    def _begin(self, source: "InputContainer | None") -> None:
        """Write the header, with the tracks in the order of the film's; those that it does not take are left out."""
        import av

        replaced = None if source is None else pyav.choose_track(source)
        tracks = [] if source is None else [track for track in source.streams if self._has_place(track, replaced)]
        for kinds in _KEPT_KINDS:
            kept = [track for track in tracks if track is replaced or track.type in kinds]
            output = av.open(str(self._part), "w", format=self._kind.container, options=_OPTIONS)
            copies: dict[int, Stream] = {}
            for track in kept:
                if track is replaced:
                    self._sound = self._add_sound(output, replaced)
                    continue
                with contextlib.suppress(ValueError, av.FFmpegError):
                    copies[track.index] = _add_copy(output, track)
            if replaced is None:
                self._sound = self._add_sound(output, None)
            missing = [track for track in tracks if track is not replaced and track.index not in copies]
            # A track with the time of the recording is made again from the tag that says it.
            missing = [track for track in missing if track.type != "data" or "timecode" not in track.metadata]
            if any(track.type == "video" and not _is_cover(track) for track in missing):
                raise ValueError("this kind of file has no place for the picture as it is coded")
            self._unkept = [_name(track) for track in missing]
            if self._options.metadata:
                self._write_tags(source, output)
            try:
                output.start_encoding()
            except (ValueError, av.FFmpegError):
                output.close()
                if kinds == _KEPT_KINDS[-1]:
                    raise
            else:
                break
        self._output = output
        self._others = _OtherTracks(source, output, copies)
        others = [_name(track) for track in tracks if track.type == "audio" and track.index in copies]
        if others:
            log.warning("%s: copied as they are: %s", self.path, ", ".join(others))

    def _has_place(self, track: "Stream", replaced: "AudioStream | None") -> bool:
        return self._kind.takes_pictures or track is replaced or _is_cover(track)

    def _add_sound(self, output: "OutputContainer", replaced: "AudioStream | None") -> "AudioStream":
        layout = replaced.layout.name if replaced is not None else _LAYOUTS[self.channels]
        encoder = self._lossless or self._kind.encoder
        added = output.add_stream(encoder, rate=self.sample_rate, layout=layout, bit_rate=self._bit_rate)
        sound = cast("AudioStream", added)
        if replaced is not None:
            if self._lossless is not None:
                sound.format = replaced.format
            sound.metadata.update({name: text for name, text in replaced.metadata.items() if name in _TRACK_TAGS})
            sound.disposition = replaced.disposition
        return sound

    def _write_tags(self, source: "InputContainer | None", output: "OutputContainer") -> None:
        if source is None:
            names = {"tracknumber": "track"}
            output.metadata.update({names.get(name, name): text for name, text in self._metadata.texts.items()})
            self._unkept += self._metadata.lost_in(self._kind.container)
            return
        output.metadata.update({name: text for name, text in source.metadata.items() if name not in _OWN_TAGS})
        output.set_chapters(source.chapters())

    def _mux(self, packets: "list[Packet[AudioStream]]") -> None:
        for packet in packets:
            if packet.dts is not None and packet.time_base is not None:
                self._others.copy_until(float(packet.dts * packet.time_base))
            self._output.mux(packet)


class _OtherTracks:
    """The tracks of a film that are copied, packet by packet in the order of the film.

    Args:
        source: The film; None if there is none.
        output: Where its packets go.
        copies: Tracks of the output by the index of those in the film.
    """

    def __init__(self, source: "InputContainer | None", output: "OutputContainer", copies: "dict[int, Stream]") -> None:
        self._output = output
        self._copies = copies
        tracks = [] if source is None else [source.streams[index] for index in copies]
        self._packets = source.demux(tracks) if source is not None and tracks else iter(())
        # The sound begins with the film, at 0.
        self._begin_seconds = (source.start_time or 0) / _MICROSECONDS if source is not None else 0.0
        self._next: Packet[Any] | None = None

    def copy_until(self, end_seconds: float | None) -> None:
        """Copy what comes before a time; everything that is left if it is None."""
        while True:
            packet = next(self._packets, None) if self._next is None else self._next
            self._next = packet
            if packet is None:
                return
            if packet.size and packet.time_base is not None:
                shift = round(self._begin_seconds / packet.time_base)
                decoded = packet.pts if packet.dts is None else packet.dts
                at_seconds = 0.0 if decoded is None else float((decoded - shift) * packet.time_base)
                if end_seconds is not None and at_seconds > end_seconds:
                    return
                packet.dts = None if decoded is None else decoded - shift
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.stream = self._copies[packet.stream.index]
                self._output.mux(packet)
            self._next = None


def _add_copy(output: "OutputContainer", track: "Stream") -> "Stream":
    copy = output.add_stream_from_template(track)
    copy.metadata.update(track.metadata)
    copy.disposition = track.disposition
    return copy


def _is_cover(track: "Stream") -> bool:
    from av.stream import Disposition

    return track.type == "video" and Disposition.attached_pic in track.disposition


def _name(track: "Stream") -> str:
    words = {"video": "picture", "audio": "sound track", "subtitle": "subtitles", "data": "data track"}
    language = track.metadata.get("language", "und")
    return f"{words.get(track.type, track.type)} {track.index + 1}{'' if language == 'und' else f' ({language})'}"


def _choose_bit_rate(
    kind: _Kind, sample_rate: int, channels: int, like: AudioInfo | None, options: OutputOptions
) -> int:
    """Bits per second for all channels."""
    if options.quality is not None:
        least, most = _QUALITY_KBPS
        wanted = channels * (least + options.quality * (most - least)) * 1000
    elif options.bitrate is not None:
        wanted = 1000 * options.bitrate
    else:
        wanted = (like.bit_rate if like is not None else 0) or 1000 * _DEFAULT_KBPS * channels
    least, most = _OPUS_BIT_RATES if kind.encoder == "libopus" else (0, _AAC_BITS_PER_SAMPLE * sample_rate)
    return round(min(max(wanted, channels * least), channels * most))
