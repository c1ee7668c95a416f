"""Sound files: found, probed, read and written by blocks, and resampled."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from sottovoce.errors import AudioError
from sottovoce.signal.containers import Head, find_defect, missing_head

log = logging.getLogger(__name__)

Float32Array = NDArray[np.float32]

_READ_FRAMES = 65536
# What libsndfile says of a file whose length it does not know.
_FRAMES_UNKNOWN = 2**63 - 1
# libsndfile's Vorbis encoder takes memory on the stack for what one call writes.
_WRITE_FRAMES = 16384


class _Container(NamedTuple):
    """How libsndfile calls a kind of file, and the sample formats that it may have; the first one is the default."""

    format: str
    subtypes: tuple[str, ...]


class _Codec(NamedTuple):
    """What a sample format can hold."""

    rates_hz: range | tuple[int, ...]
    channels: int

    def holds(self, sample_rate: int, channels: int) -> bool:
        return sample_rate in self.rates_hz and channels <= self.channels


_LINEAR = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "PCM_U8")
_CONTAINERS = {
    ".wav": _Container("WAV", _LINEAR),
    ".flac": _Container("FLAC", ("PCM_16", "PCM_24", "PCM_S8")),
    ".ogg": _Container("OGG", ("VORBIS", "OPUS")),
    ".oga": _Container("OGG", ("VORBIS", "OPUS")),
    ".opus": _Container("OGG", ("OPUS",)),
    ".mp3": _Container("MP3", ("MPEG_LAYER_III",)),
    ".aiff": _Container("AIFF", (*_LINEAR, "PCM_S8")),
    ".aif": _Container("AIFF", (*_LINEAR, "PCM_S8")),
}
MOST_CHANNELS = 1024
"""What libsndfile takes; more are samples in the place of channels."""

_UNLIMITED = _Codec(range(1, 2**31), MOST_CHANNELS)
_CODECS = {
    "FLAC": _Codec(range(1, 655_351), 8),
    # libvorbis crashes above 200 kHz.
    "VORBIS": _Codec(range(1, 200_001), 255),
    "OPUS": _Codec((8000, 12000, 16000, 24000, 48000), 255),
    "MPEG_LAYER_III": _Codec((8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), 2),
}
_INTEGER_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16, "ALAW": 16}
_SAMPLE_BYTES = {
    "PCM_U8": 1,
    "PCM_S8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "ULAW": 1,
    "ALAW": 1,
    "FLOAT": 4,
    "DOUBLE": 8,
}
# The header of a WAV or AIFF has 32 bits for the size of the whole.
_SIZE_LIMIT_BYTES = 2**32 - 2**16

AUDIO_SUFFIXES = tuple(_CONTAINERS)
"""File names' endings that are read and written."""

PYAV_SUFFIXES = (".m4a", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".wma", ".3gp")
"""File names' endings that are read when PyAV is installed; they are never written."""


@dataclass(frozen=True)
class AudioInfo:
    """What a recording is, without its samples.

    Attributes:
        path: The file.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        frames: Samples per channel; an estimate where `needs_pyav`, and 0 for a pipe of unknown length.
        format: Kind of file in libsndfile's words, such as WAV or FLAC.
        subtype: Sample format in libsndfile's words, such as PCM_16, FLOAT or VORBIS.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    @property
    def needs_pyav(self) -> bool:
        """Whether PyAV reads it, which knows its length by the packets' durations alone."""
        return self.format not in sf.available_formats()


def find_audio(folder: Path) -> list[Path]:
    """List the recordings in a folder and in the folders below it.

    Args:
        folder: An existing folder.

    Returns:
        Paths in sorted order, those that need PyAV included; files whose name begins with a dot are left out.

    Raises:
        AudioError: The folder is missing, is a file, or holds no recording.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise AudioError(f"found {found} at {folder}, expected a folder with recordings")
    suffixes = (*AUDIO_SUFFIXES, *PYAV_SUFFIXES)
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise AudioError(f"found no recording in the folder {folder}, expected {_listing(suffixes)} files")
    return paths


def probe(path: Path | str) -> AudioInfo:
    """Find out what a recording is, and that it is whole as far as its header can tell.

    Args:
        path: A sound file.

    Returns:
        Format, rate, channels and length.

    Raises:
        AudioError: The file is missing, empty, cut, without samples, or of an unknown kind.
    """
    path = Path(path)
    _require_sound(path)
    try:
        with _open(path) as file:
            frames = _count(file) if file.frames == _FRAMES_UNKNOWN else file.frames
            info = AudioInfo(path, file.samplerate, file.channels, frames, file.format, file.subtype)
    except sf.SoundFileError as error:
        if path.suffix.lower() not in PYAV_SUFFIXES:
            raise AudioError(
                f"{path} is not a sound file that can be read, or it is damaged: expected {_listing(AUDIO_SUFFIXES)}; "
                f"`ffmpeg -i {path.name} out.wav` converts other kinds"
            ) from error
        info = _probe_with_pyav(path)
    if info.frames == 0:
        raise AudioError(f"{path} holds no samples, expected a recording of one sample at least: record it again")
    return info


def read(path: Path | str, *, start: int = 0, frames: int | None = None) -> tuple[Float32Array, int]:
    """Read a recording, or a part of it, into memory.

    Args:
        path: A sound file.
        start: First sample to read.
        frames: Samples to read; None for all. Fewer come back at the end of the recording.

    Returns:
        Samples `(channels, samples)`, full scale ±1, those that are not finite replaced by 0; and the rate in Hz.

    Raises:
        AudioError: The file cannot be read (see `probe`), or begins to be unreadable after its header.
    """
    info = probe(path)
    pieces = list(_finite(info, _decode(info, _READ_FRAMES, start, frames)))
    empty = np.zeros((info.channels, 0), np.float32)
    return np.concatenate([empty, *pieces], axis=1), info.sample_rate


def blocks(path: Path | str, block_frames: int) -> Iterator[Float32Array]:
    """Read a recording piece by piece, in memory that does not depend on its length.

    Args:
        path: A sound file.
        block_frames: Most samples per block.

    Returns:
        An iterator over blocks `(channels, n)`, full scale ±1, samples that are not finite replaced by 0.

    Raises:
        AudioError: The file cannot be read (see `probe`); raised during iteration when its samples cannot.
    """
    info = probe(path)
    return _finite(info, _decode(info, block_frames))


class Writer:
    """Writes a recording block by block, as a context manager; the file appears whole or not at all.

    The blocks go to a temporary file in the target's folder, which gets the target's name at the end of the `with`
    block and disappears if that is left by an exception. Integer sample formats are rounded and limited to ±1, with a
    warning that says how many samples were beyond; float and lossy formats take every value. A WAV of more than 4 GiB
    becomes an RF64, at once if `like` tells that it will be so long.

    Args:
        path: The file to write; its suffix sets the kind.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        like: A recording whose sample format is kept where the kind of file allows it; 16 bit otherwise, and 24 bit
            where a FLAC takes the place of a wider format.
        overwrite: Replace an existing file.

    Raises:
        AudioError: The kind of file is unknown or cannot hold the rate, the channels or the length, the file exists, or
            it cannot be written.
    """

    def __init__(
        self,
        path: Path | str,
        sample_rate: int,
        channels: int,
        *,
        like: AudioInfo | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.format, self.subtype = _choose_format(self.path, sample_rate, channels, like)
        self._overwrite = overwrite
        self._part = self.path.with_name(f".{secrets.token_hex(8)}.part")
        self._frames = 0
        self._limited = 0
        self._refuse_existing()

    def __enter__(self) -> Self:
        try:
            self._part.touch(exist_ok=False)
            self._file = self._open()
        except OSError as error:
            raise AudioError(
                f"cannot write {self.path} ({error.strerror}): name a folder that exists and that you may write to"
            ) from error
        except sf.SoundFileError as error:
            self._part.unlink(missing_ok=True)
            raise AudioError(f"cannot write {self.path} as {self.format} {self.subtype} ({error})") from error
        return self

    def write(self, block: NDArray[np.floating]) -> None:
        """Append samples.

        Args:
            block: Samples `(channels, n)`, full scale ±1.

        Raises:
            AudioError: The disk does not take them, or the kind of file holds no more.
            ValueError: The block has another shape.
        """
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"found a block of shape {block.shape}, expected ({self.channels}, samples)")
        for start in range(0, block.shape[1], _WRITE_FRAMES):
            samples = self._encode(block[:, start : start + _WRITE_FRAMES]).T
            try:
                if _exceeds_limit(self.format, self.subtype, self._frames + len(samples), self.channels):
                    self._go_on_as_rf64()
                self._file.write(samples)
            # soundfile asserts that libsndfile took every sample.
            except (sf.SoundFileError, AssertionError) as error:
                raise self._disk_error() from error
            self._frames += samples.shape[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
            else:
                with contextlib.suppress(sf.SoundFileError):
                    self._file.close()
        finally:
            self._part.unlink(missing_ok=True)

    def _open(self) -> sf.SoundFile:
        return sf.SoundFile(self._part, "w", self.sample_rate, self.channels, self.subtype, format=self.format)

    def _go_on_as_rf64(self) -> None:
        """Copy what a WAV holds to an RF64, whose header tells other sizes, and go on with that."""
        if self.format == "AIFF":
            raise _too_long(self.path)
        self._file.close()
        self.format = "RF64"
        written = self._part.rename(self._part.with_suffix(".full"))
        try:
            self._file = self._open()
            with sf.SoundFile(written) as file:
                dtype = "int32" if self.subtype in _INTEGER_BITS else "float32"
                for block in file.blocks(_READ_FRAMES, dtype=dtype):
                    self._file.write(block)
        finally:
            written.unlink()

    def _encode(self, block: NDArray[np.floating]) -> NDArray[np.float32] | NDArray[np.int32]:
        bits = _INTEGER_BITS.get(self.subtype)
        if bits is None:
            return block.astype(np.float32)
        self._limited += int(np.count_nonzero(np.abs(block) > 1))
        # libsndfile truncates where it should round, so the integers are made here: read and written is the same.
        return quantise(block, bits) << (32 - bits)

    def _commit(self) -> None:
        if self._frames == 0:
            self._file.close()
            raise AudioError(f"found no samples to write to {self.path}, expected one at least")
        try:
            self._file.close()
            # An encoder may notice only while it closes, and say nothing, that the disk took no more.
            with sf.SoundFile(self._part) as written:
                is_whole = written.frames == self._frames and find_defect(self._part) is None
        except sf.SoundFileError as error:
            raise self._disk_error() from error
        if not is_whole:
            raise self._disk_error()
        self._refuse_existing()
        try:
            with self._part.open("rb+") as file:
                os.fsync(file.fileno())
            self._part.replace(self.path)
        except OSError as error:
            raise AudioError(f"cannot write {self.path} ({error.strerror}): name another file") from error
        if self._limited:
            log.warning(
                "%s: %d samples were beyond full scale and were limited to ±1; 32-bit float WAV would keep them",
                self.path,
                self._limited,
            )

    def _refuse_existing(self) -> None:
        if self.path.is_dir():
            raise AudioError(f"cannot write {self.path}: found a folder, expected a file name")
        if not self._overwrite and self.path.exists():
            raise AudioError(f"{self.path} exists and is kept: name another output, or allow overwriting")

    def _disk_error(self) -> AudioError:
        return AudioError(
            f"cannot write {self.path}: the disk is full or failed after {self._frames / self.sample_rate:.1f} seconds "
            "of sound, and nothing was kept; free some space or name another folder"
        )


def quantise(samples: NDArray[np.floating], bits: int) -> NDArray[np.int32]:
    """Round samples to integers; what is beyond full scale is limited.

    Args:
        samples: Samples of any shape, full scale ±1.
        bits: Bits of the integers, 8 to 32.

    Returns:
        Integers of the same shape, from -2 ** (bits - 1) to 2 ** (bits - 1) - 1.
    """
    scale = 2.0 ** (bits - 1)
    return np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1).astype(np.int32)


class _Sequential(sf.SoundFile):  # type: ignore[misc]
    """A sound file that is read on from where it is.

    soundfile seeks after every block to where the file is anyway: the decoder of an MP3 forgets by it what the next
    frame takes from earlier ones, and a FLAC of unknown length has no end to go to.
    """

    def seekable(self) -> bool:
        return False


class _WithHead:
    """A file with another beginning, for libsndfile to read.

    Args:
        file: The file.
        head: Its beginning.
    """

    def __init__(self, file: BinaryIO, head: Head) -> None:
        self._file = file
        self._head = head.content
        self._shift = head.skipped - len(head.content)
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._file.seek(0, os.SEEK_END) - self._shift
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position

    def read(self, count: int) -> bytes:
        content = self._head[self._position : self._position + count]
        if len(content) < count:
            self._file.seek(self._position + len(content) + self._shift)
            content += self._file.read(count - len(content))
        self._position += len(content)
        return content


def _listing(words: Iterable[object]) -> str:
    *most, last = (str(word) for word in words)
    return f"{', '.join(most)} or {last}" if most else last


def _require_sound(path: Path) -> None:
    """Refuse what is not a file with something in it, and what its container shows to be cut."""
    try:
        if path.is_dir():
            raise AudioError(f"found a folder at {path}, expected a sound file: name a file in it")
        if not path.exists():
            raise AudioError(f"found nothing at {path}, expected a sound file: check the name")
        if path.stat().st_size == 0:
            raise AudioError(f"{path} is empty (0 bytes), expected a sound file: copy or record it again")
        defect = find_defect(path)
    except OSError as error:
        raise AudioError(f"cannot read {path} ({error.strerror}): check that you may read it") from error
    if defect is not None:
        raise AudioError(
            f"{path} {defect}: copy it again, or convert what is there with `ffmpeg -i {path.name} out.wav`"
        )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sf.SoundFile]:
    head = missing_head(path)
    with contextlib.ExitStack() as stack:
        source = path if head is None else _WithHead(stack.enter_context(path.open("rb")), head)
        yield stack.enter_context(_Sequential(source))


def _count(file: sf.SoundFile) -> int:
    """Samples per channel of a file whose header does not tell, as that of a FLAC from a pipe."""
    frames = 0
    while count := len(file.read(_READ_FRAMES)):
        frames += count
    return frames


def _decode(info: AudioInfo, block_frames: int, start: int = 0, frames: int | None = None) -> Iterator[Float32Array]:
    """Blocks `(channels, n)` of the part of a recording that begins at `start`."""
    if info.needs_pyav:
        yield from _regroup(_decode_with_pyav(info, start, frames), block_frames)
        return
    remaining = max(0, info.frames - start if frames is None else min(frames, info.frames - start))
    try:
        with _open(info.path) as file:
            if start and remaining:
                file.seek(start)
            while remaining > 0:
                block = file.read(min(block_frames, remaining), dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                remaining -= len(block)
                yield block.T
    except sf.SoundFileError as error:
        raise _damaged(info, remaining) from error
    if remaining:
        raise _damaged(info, remaining)


def _damaged(info: AudioInfo, remaining: int) -> AudioError:
    return AudioError(
        f"{info.path} is cut short or damaged ({remaining / info.sample_rate:.2f} of the {info.seconds:.2f} seconds "
        "which its header promises cannot be read): copy it again, or convert what is there with "
        f"`ffmpeg -i {info.path.name} out.wav`"
    )


def _finite(info: AudioInfo, source: Iterator[Float32Array]) -> Iterator[Float32Array]:
    replaced = 0
    for block in source:
        finite = np.isfinite(block)
        replaced += finite.size - int(np.count_nonzero(finite))
        yield np.where(finite, block, np.float32(0))
    if replaced:
        log.warning("%s: %d samples are not finite numbers and were taken as 0", info.path, replaced)


def _choose_format(path: Path, sample_rate: int, channels: int, like: AudioInfo | None) -> tuple[str, str]:
    """Name the kind of file and the sample format in libsndfile's words."""
    suffix = path.suffix.lower()
    if suffix not in _CONTAINERS:
        raise AudioError(f"cannot write {path}: found the ending {path.suffix!r}, expected {_listing(AUDIO_SUFFIXES)}")
    container = _CONTAINERS[suffix]
    subtype = container.subtypes[0]
    if like is not None and like.subtype in container.subtypes:
        subtype = like.subtype
    elif like is not None and like.subtype in ("PCM_32", "FLOAT", "DOUBLE") and "PCM_24" in container.subtypes:
        subtype = "PCM_24"
    codec = _codec(container, subtype)
    if not codec.holds(sample_rate, channels):
        fitting = [
            ending
            for ending, other in _CONTAINERS.items()
            if _codec(other, other.subtypes[0]).holds(sample_rate, channels)
        ]
        rates = f"up to {codec.rates_hz[-1]}" if isinstance(codec.rates_hz, range) else _listing(codec.rates_hz)
        raise AudioError(
            f"cannot write {path}: found {sample_rate} Hz and {channels} channels, expected {rates} Hz and at most "
            f"{codec.channels} channels for this kind of file; write {_listing(fitting)}"
        )
    is_long = like is not None and _exceeds_limit(container.format, subtype, like.frames, channels)
    if is_long and container.format == "AIFF":
        raise _too_long(path)
    if container.format == "WAV" and like is not None:
        kept = like.format if like.format in ("WAVEX", "RF64") else "WAV"
        return "RF64" if is_long else kept, subtype
    return container.format, subtype


def _exceeds_limit(kind: str, subtype: str, frames: int, channels: int) -> bool:
    return kind in ("WAV", "WAVEX", "AIFF") and frames * channels * _SAMPLE_BYTES[subtype] > _SIZE_LIMIT_BYTES


def _too_long(path: Path) -> AudioError:
    return AudioError(
        f"cannot write {path}: the sound takes more than the 4 GiB that this kind of file holds, and nothing was kept; "
        "name a .wav or .flac"
    )


def _codec(container: _Container, subtype: str) -> _Codec:
    return _CODECS.get(subtype) or _CODECS.get(container.format, _UNLIMITED)


def _probe_with_pyav(path: Path) -> AudioInfo:
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
            seconds = sum(
                float(packet.duration * packet.time_base)
                for packet in container.demux(stream)
                if packet.duration and packet.time_base
            )
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"{path} is not a sound file that can be read, or it is cut or damaged ({error.strerror}): copy it again"
        ) from error
    return AudioInfo(path, rate, channels, round(seconds * rate), path.suffix[1:].upper(), codec.upper())


def _decode_with_pyav(info: AudioInfo, start: int, frames: int | None) -> Iterator[Float32Array]:
    """Pieces as from `_decode`; a part is reached by decoding what is before it, which is exact for every codec."""
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
        raise _damaged(info, max(0, info.frames - position)) from error


def _regroup(pieces: Iterable[Float32Array], block_frames: int) -> Iterator[Float32Array]:
    """Join and cut pieces `(channels, n)` to blocks of one length; the last may be shorter."""
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
