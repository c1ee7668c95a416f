"""Sound in pipes: WAV whose length nobody knows yet, and samples without a header; by blocks, as they come."""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import AudioError
from sottovoce.signal.audio import AudioInfo, Float32Array, quantise
from sottovoce.signal.audio.comments import MAX_METADATA_BYTES
from sottovoce.signal.audio.containers import MAX_CHUNKS, RIFF, is_unknown_size
from sottovoce.signal.audio.layout import TAG_EXTENSIBLE, ChannelLayout, format_extension, parse_layout
from sottovoce.signal.audio.metadata import Metadata, Part, from_chunks, pack_chunks
from sottovoce.signal.limits import implausible

log = logging.getLogger(__name__)

RAW_SUBTYPES = {"s16le": "PCM_16", "f32le": "FLOAT"}
"""Names, in ffmpeg's words, of what samples without a header may be, and libsndfile's words for them."""

_TAG_INTEGER, _TAG_FLOAT = 1, 3
_SIZE_UNKNOWN = 0xFFFF_FFFF


class _Encoding(NamedTuple):
    """How a WAV holds one sample."""

    tag: int
    bits: int

    @property
    def bytes(self) -> int:
        return self.bits // 8


_ENCODINGS = {
    "PCM_U8": _Encoding(_TAG_INTEGER, 8),
    "PCM_16": _Encoding(_TAG_INTEGER, 16),
    "PCM_24": _Encoding(_TAG_INTEGER, 24),
    "PCM_32": _Encoding(_TAG_INTEGER, 32),
    "FLOAT": _Encoding(_TAG_FLOAT, 32),
    "DOUBLE": _Encoding(_TAG_FLOAT, 64),
}


@dataclass(frozen=True)
class RawSound:
    """What samples without a header are.

    Attributes:
        encoding: A name of `RAW_SUBTYPES`.
        sample_rate: Rate in Hz.
        channels: Number of channels, interleaved.

    Raises:
        AudioError: A number is implausible.
    """

    encoding: str
    sample_rate: int
    channels: int

    def __post_init__(self) -> None:
        wrong = implausible(self.sample_rate, self.channels)
        if wrong is not None:
            raise AudioError(f"cannot read raw sound: found {wrong}")


class PipeReader:
    """Reads sound from a pipe; the header at once, the samples as they come.

    Args:
        file: An unbuffered binary file, whose `read(n)` gives what is there; named standard input in messages.
        raw: What the samples are where there is no header; otherwise a WAV is expected, of known length or not.

    Raises:
        AudioError: There is nothing, no WAV, a cut header, or a kind of WAV that is not known here.
    """

    def __init__(self, file: RawIOBase, raw: RawSound | None = None) -> None:
        self._file = file
        self._header_bytes = 0
        self._promised: int | None = None
        self._bytes_behind = 0
        self.metadata = Metadata()
        layout = None
        if raw is not None:
            self.sample_rate, self.channels, subtype = raw.sample_rate, raw.channels, RAW_SUBTYPES[raw.encoding]
        else:
            (self.sample_rate, self.channels, subtype), layout = self._read_header()
        frame_bytes = _ENCODINGS[subtype].bytes * self.channels
        frames = 0 if self._promised is None else self._promised // frame_bytes
        self.info = AudioInfo(Path("-"), self.sample_rate, self.channels, frames, "WAV", subtype, layout)

    def blocks(self, block_frames: int) -> Iterator[Float32Array]:
        """Give what comes, until the end.

        Args:
            block_frames: Most samples per block; what a slow pipe has is given without waiting for more.

        Returns:
            An iterator over blocks `(channels, n)`, full scale ±1.

        Raises:
            AudioError: The pipe ended before any sound, or before what its header promises; raised at the end.
        """
        encoding = _ENCODINGS[self.info.subtype]
        frame_bytes = encoding.bytes * self.channels
        waiting, taken = b"", 0
        while self._promised is None or taken < self._promised:
            wanted = block_frames * frame_bytes - len(waiting)
            if self._promised is not None:
                wanted = min(wanted, self._promised - taken)
            piece = self._file.read(wanted)
            if not piece:
                break
            taken += len(piece)
            waiting += piece
            whole = len(waiting) - len(waiting) % frame_bytes
            if whole:
                yield _decode(waiting[:whole], self.info.subtype).reshape(-1, self.channels).T
                waiting = waiting[whole:]
        if taken < frame_bytes:
            raise AudioError(_ended_before("the first sample", self._header_bytes + taken))
        if self._promised is not None and taken < self._promised:
            raise AudioError(
                f"standard input is cut short (its header promises {self._promised} bytes of sound, {taken} came): "
                "see whether the program before the pipe failed"
            )
        if self._bytes_behind:
            log.warning(
                "standard input: %d bytes behind the samples, such as markers and tags, were left out: name the file "
                "to keep them",
                self._bytes_behind,
            )
        if waiting:
            log.warning("standard input ended within a sample: %d byte(s) were left out", len(waiting))

    def _read_header(self) -> tuple[tuple[int, int, str], ChannelLayout | None]:
        """Read up to the samples; gives rate, channels and sample format, and the layout of the channels."""
        head = self._read_exactly(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            raise AudioError(
                f"standard input begins with {head[:4]!r}, expected a WAV: convert it before the pipe with "
                "`ffmpeg -i IN -f wav -`, or say what it is with --raw, --rate and --channels"
            )
        sound, layout, long_size = None, None, None
        parts: list[Part] = []
        for _ in range(MAX_CHUNKS):
            name, length = struct.unpack("<4sI", self._read_exactly(8))
            if name == b"data":
                break
            if self._header_bytes + length > MAX_METADATA_BYTES:
                raise AudioError(
                    f"standard input is a WAV with a damaged header (a part of {length} bytes): write it again"
                )
            # Chunks have an even number of bytes.
            content = self._read_exactly(length + length % 2)
            if name == b"ds64" and length >= 16:
                long_size = struct.unpack_from("<8xQ", content)[0]
            if name == b"fmt " and length >= 16:
                sound, layout = _read_format(content[:length]), parse_layout(content[:length])
            parts.append(Part(name, content[:length]))
        if sound is None or name != b"data":
            raise AudioError("standard input is a WAV that does not say what its samples are: write it again")
        self.metadata = from_chunks(RIFF.name, parts)
        if long_size and length == _SIZE_UNKNOWN:
            self._promised = long_size
        elif not is_unknown_size(length):
            self._promised = length
        riff_size = int.from_bytes(head[4:8], "little")
        if self._promised is not None and not is_unknown_size(riff_size):
            self._bytes_behind = max(0, 8 + riff_size - self._header_bytes - self._promised - self._promised % 2)
        return sound, layout

    def _read_exactly(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            piece = self._file.read(count - len(content))
            if not piece:
                raise AudioError(_ended_before("the end of a WAV's header", self._header_bytes))
            content += piece
            self._header_bytes += len(piece)
        return content


class PipeWriter:
    """Writes sound to a pipe as it comes, as a context manager; a WAV, whose header is written first.

    Integer sample formats are rounded and limited to ±1, with a warning that says how many samples were beyond.

    Args:
        file: An unbuffered binary file; named standard output in messages.
        like: A recording whose rate, channels, layout and sample format are kept; 16 bit where a WAV does not have the
            format.
        metadata: What the WAV says beside its samples; a warning names what it has no place for.
        raw: Name in `RAW_SUBTYPES` of samples without a header, to be written instead of a WAV.
        frames: Samples per channel that will come; None if nobody knows, and the header then says so as ffmpeg does.

    Raises:
        AudioError: The pipe is closed or takes no more.
    """

    def __init__(
        self,
        file: RawIOBase,
        like: AudioInfo,
        *,
        metadata: Metadata | None = None,
        raw: str | None = None,
        frames: int | None = None,
    ) -> None:
        self._file = file
        self._like = like
        self._metadata = metadata or Metadata()
        self._is_raw = raw is not None
        self._frames = frames
        self.subtype = RAW_SUBTYPES[raw] if raw else like.subtype if like.subtype in _ENCODINGS else "PCM_16"
        self._encoding = _ENCODINGS[self.subtype]
        self._written = 0
        self._limited = 0

    def __enter__(self) -> Self:
        if not self._is_raw:
            self._write(self._header())
        return self

    def write(self, block: NDArray[np.floating]) -> None:
        """Write samples at once.

        Args:
            block: Samples `(channels, n)`, full scale ±1.

        Raises:
            AudioError: Nobody reads the pipe any more, or it takes no more.
        """
        if block.shape[1]:
            if self._encoding.tag == _TAG_INTEGER:
                self._limited += int(np.count_nonzero(np.abs(block) > 1))
            self._write(_encode(block.T, self.subtype))
            self._written += block.shape[1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if not self._is_raw and self._written * self._like.channels * self._encoding.bytes % 2:
            self._write(b"\0")
        lost = [] if self._is_raw else self._metadata.lost_in("WAV")
        if lost:
            log.warning("standard output: left out, since a WAV has no place for it: %s", ", ".join(lost))
        if self._limited:
            log.warning(
                "standard output: %d samples were beyond full scale and were limited to ±1; float would keep them",
                self._limited,
            )

    def _header(self) -> bytes:
        rate, channels = self._like.sample_rate, self._like.channels
        frame_bytes = channels * self._encoding.bytes
        tag, bits, layout = self._encoding.tag, self._encoding.bits, self._like.layout
        sound = struct.pack(
            "<HHIIHH", TAG_EXTENSIBLE if layout else tag, channels, rate, rate * frame_bytes, frame_bytes, bits
        )
        if layout is not None:
            sound += format_extension(layout, tag, bits)
        elif tag == _TAG_FLOAT:
            sound += struct.pack("<H", 0)  # no more about it
        # All chunks lead: what follows the samples must be known before they are, for the size of the whole.
        chunks = pack_chunks(RIFF, [Part(b"fmt ", sound), *self._metadata.chunks_for(RIFF.name)])
        size = _SIZE_UNKNOWN if self._frames is None else self._frames * frame_bytes
        riff_size = 4 + len(chunks) + 8 + size + size % 2
        if riff_size > _SIZE_UNKNOWN:
            size = riff_size = _SIZE_UNKNOWN
        return struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE") + chunks + struct.pack("<4sI", b"data", size)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as error:
            seconds = self._written / self._like.sample_rate
            if isinstance(error, BrokenPipeError):
                message = f"the program that reads standard output closed it after {seconds:.1f} seconds of sound"
            else:
                message = f"cannot write standard output after {seconds:.1f} seconds of sound ({error.strerror})"
            raise AudioError(message) from error


def _ended_before(what: str, count: int) -> str:
    return f"standard input ended before {what} ({count} bytes came): see whether the program before the pipe failed"


def _read_format(content: bytes) -> tuple[int, int, str]:
    """Rate, channels and sample format of a `fmt ` chunk."""
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content)
    if tag == TAG_EXTENSIBLE and len(content) >= 26:
        tag = struct.unpack_from("<H", content, 24)[0]
    subtypes = {known: subtype for subtype, known in _ENCODINGS.items()}
    encoding = _Encoding(tag, bits)
    if encoding not in subtypes:
        raise AudioError(
            f"standard input is a WAV of kind {tag:#x} with {bits} bits, expected plain samples (8 to 32 bits, or "
            "float): convert it before the pipe with `ffmpeg -i IN -f wav -c:a pcm_s16le -`"
        )
    wrong = implausible(rate, channels)
    if wrong is not None:
        raise AudioError(
            f"standard input is a WAV with an implausible header: found {wrong}; see what the program before "
            "the pipe writes"
        )
    return rate, channels, subtypes[encoding]


def _decode(content: bytes, subtype: str) -> Float32Array:
    if subtype == "PCM_U8":
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if subtype == "PCM_24":
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    kind, full_scale = {"PCM_16": ("<i2", 2**15), "PCM_32": ("<i4", 2**31), "FLOAT": ("<f4", 1), "DOUBLE": ("<f8", 1)}[
        subtype
    ]
    # A double beyond the range of float32 becomes infinite, which a stream takes as 0.
    with np.errstate(over="ignore"):
        return np.frombuffer(content, kind).astype(np.float32) / np.float32(full_scale)


def _encode(samples: NDArray[np.floating], subtype: str) -> bytes:
    if subtype in ("FLOAT", "DOUBLE"):
        return samples.astype("<f4" if subtype == "FLOAT" else "<f8").tobytes()
    bits = _ENCODINGS[subtype].bits
    integers = quantise(samples, bits)
    if subtype == "PCM_U8":
        return (integers + 128).astype(np.uint8).tobytes()
    if subtype == "PCM_24":
        return np.ascontiguousarray(integers, "<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return integers.astype(f"<i{bits // 8}").tobytes()
