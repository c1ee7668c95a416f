"""Kinds of sound files: what each can hold, and what a recording is."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import AudioError
from sottovoce.signal.audio.comments import MAX_METADATA_BYTES
from sottovoce.signal.audio.layout import ChannelLayout
from sottovoce.signal.limits import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ

Float32Array = NDArray[np.float32]


class _Container(NamedTuple):
    """How libsndfile calls a kind of file, and the sample formats that it may have; the first one is the default."""

    format: str
    subtypes: tuple[str, ...]


class _Codec(NamedTuple):
    """What a sample format can hold: rates, the same in words, and how many channels."""

    rates_hz: tuple[range | tuple[int, ...], ...]
    rates: str
    channels: int

    def holds(self, sample_rate: int, channels: int) -> bool:
        return any(sample_rate in rates for rates in self.rates_hz) and channels <= self.channels


LINEAR = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "PCM_U8")
"""Sample formats in which each sample stands for itself."""

_CONTAINERS = {
    ".wav": _Container("WAV", LINEAR),
    ".wave": _Container("WAV", LINEAR),
    ".bwf": _Container("WAV", LINEAR),
    ".rf64": _Container("WAV", LINEAR),
    ".flac": _Container("FLAC", ("PCM_16", "PCM_24", "PCM_S8")),
    ".ogg": _Container("OGG", ("VORBIS", "OPUS")),
    ".oga": _Container("OGG", ("VORBIS", "OPUS")),
    ".opus": _Container("OGG", ("OPUS",)),
    ".mp3": _Container("MP3", ("MPEG_LAYER_III",)),
    ".aiff": _Container("AIFF", (*LINEAR, "PCM_S8")),
    ".aif": _Container("AIFF", (*LINEAR, "PCM_S8")),
    ".aifc": _Container("AIFF", (*LINEAR, "PCM_S8")),
    ".caf": _Container("CAF", (*(subtype for subtype in LINEAR if subtype != "PCM_U8"), "PCM_S8")),
    ".w64": _Container("W64", LINEAR),
}
_UNLIMITED = _Codec((range(MIN_RATE_HZ, MAX_RATE_HZ + 1),), f"{MIN_RATE_HZ} to {MAX_RATE_HZ}", MAX_CHANNELS)
_CODECS = {
    # A frame's header says higher rates in tens of Hz.
    "FLAC": _Codec(
        (range(MIN_RATE_HZ, 65_536), range(65_540, MAX_RATE_HZ + 1, 10)),
        f"{MIN_RATE_HZ} to 65535, or a multiple of 10 up to {MAX_RATE_HZ},",
        8,
    ),
    # libvorbis crashes above 200 kHz.
    "VORBIS": _Codec((range(MIN_RATE_HZ, 200_001),), f"{MIN_RATE_HZ} to 200000", MAX_CHANNELS),
    "OPUS": _Codec(((8000, 12000, 16000, 24000, 48000),), "8000, 12000, 16000, 24000 or 48000", MAX_CHANNELS),
    "MPEG_LAYER_III": _Codec(
        ((8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),),
        "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000",
        2,
    ),
}
SAMPLE_BYTES = {
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
"""Bytes of a sample in the formats in which each stands for itself."""

# The header of a WAV or AIFF has 32 bits for the size of the whole, metadata included.
_SIZE_LIMIT_BYTES = 2**32 - 2**16 - MAX_METADATA_BYTES

AUDIO_SUFFIXES = tuple(_CONTAINERS)
"""File names' endings that are read and written."""

READ_SUFFIXES = (".au", ".mp1", ".mp2", ".nist", ".snd", ".sph", ".voc")
"""File names' endings that are read without PyAV, and never written."""

PYAV_SUFFIXES = (
    *(".3g2", ".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".awb", ".dsf", ".dts", ".eac3", ".f4v", ".flv", ".m2ts"),
    *(".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ra"),
    *(".rm", ".spx", ".tta", ".vob", ".weba", ".webm", ".wma", ".wmv", ".wv"),
)
"""File names' endings that are read when PyAV is installed; it writes some of them."""

FOUND_SUFFIXES = (*AUDIO_SUFFIXES, *READ_SUFFIXES, *PYAV_SUFFIXES)
"""File names' endings by which recordings are found in folders."""


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
        layout: Where the channels belong; None if the recording does not say.
        bit_rate: Bits per second of a lossy recording; 0 for others.
        needs_pyav: Whether PyAV reads it, which knows its length by the packets' durations alone.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    layout: ChannelLayout | None = None
    bit_rate: float = 0.0
    needs_pyav: bool = False

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def choose_format(path: Path, sample_rate: int, channels: int, like: AudioInfo | None) -> tuple[str, str]:
    """Name the kind of file and the sample format to write, in libsndfile's words.

    Args:
        path: The file to write; its suffix sets the kind.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        like: A recording whose sample format is kept where the kind of file allows it.

    Returns:
        Kind of file and sample format.

    Raises:
        AudioError: The kind of file is unknown, or cannot hold the rate, the channels or the length.
    """
    suffix = path.suffix.lower()
    if suffix not in _CONTAINERS:
        raise AudioError(f"cannot write {path}: found the ending {path.suffix!r}, expected {listing(AUDIO_SUFFIXES)}")
    container = _CONTAINERS[suffix]
    subtype = container.subtypes[0]
    if like is not None and like.subtype in container.subtypes:
        subtype = like.subtype
    elif like is not None and like.subtype in ("PCM_32", "FLOAT", "DOUBLE") and "PCM_24" in container.subtypes:
        subtype = "PCM_24"
    codec = _codec(container, subtype)
    if not codec.holds(sample_rate, channels):
        raise AudioError(
            f"cannot write {path}: found {sample_rate} Hz and {channels} channels, expected {codec.rates} Hz and "
            f"at most {codec.channels} channels for this kind of file; write "
            f"{listing(kinds_for(sample_rate, channels))}"
        )
    is_long = like is not None and exceeds_limit(container.format, subtype, like.frames, channels)
    if is_long and container.format == "AIFF":
        raise too_long(path)
    if container.format == "WAV" and like is not None:
        kept = like.format if like.format in ("WAVEX", "RF64") else "WAV" if like.layout is None else "WAVEX"
        return "RF64" if is_long else kept, subtype
    return container.format, subtype


def kinds_for(sample_rate: int, channels: int) -> list[str]:
    """List the kinds of files that can hold a rate and a number of channels.

    Args:
        sample_rate: Rate in Hz, in range.
        channels: Number of channels, in range.

    Returns:
        The first of the file names' endings of each; .wav at least.
    """
    endings: dict[_Container, str] = {}
    for ending, container in _CONTAINERS.items():
        if _codec(container, container.subtypes[0]).holds(sample_rate, channels):
            endings.setdefault(container, ending)
    return list(endings.values())


def exceeds_limit(kind: str, subtype: str, frames: int, channels: int) -> bool:
    """Say whether samples take more than the 4 GiB that the header of a WAV or AIFF can state.

    Args:
        kind: Kind of file in libsndfile's words.
        subtype: Sample format in libsndfile's words.
        frames: Samples per channel.
        channels: Number of channels.

    Returns:
        False for kinds of files that have no such limit.
    """
    return kind in ("WAV", "WAVEX", "AIFF") and frames * channels * SAMPLE_BYTES[subtype] > _SIZE_LIMIT_BYTES


def too_long(path: Path) -> AudioError:
    """Make the error for sound that a kind of file has no room for.

    Args:
        path: The file that was to be written.

    Returns:
        The error, to be raised.
    """
    return AudioError(
        f"cannot write {path}: the sound takes more than the 4 GiB that this kind of file holds, and nothing was kept; "
        "name a .wav or .flac"
    )


def _codec(container: _Container, subtype: str) -> _Codec:
    return _CODECS.get(subtype) or _CODECS.get(container.format, _UNLIMITED)


def listing(words: Iterable[object]) -> str:
    """Join words as a sentence lists them.

    Args:
        words: One at least.

    Returns:
        Such as ".wav, .flac or .ogg".
    """
    *most, last = (str(word) for word in words)
    return f"{', '.join(most)} or {last}" if most else last


def damaged(info: AudioInfo, remaining: int) -> AudioError:
    """Make the error for a recording whose samples end before their number is reached.

    Args:
        info: What the recording promises.
        remaining: Samples per channel that are missing.

    Returns:
        The error, to be raised.
    """
    return AudioError(
        f"{info.path} is cut short or damaged ({remaining / info.sample_rate:.2f} of the {info.seconds:.2f} seconds "
        "which its header promises cannot be read): copy it again, or convert what is there with "
        f"`ffmpeg -i {info.path.name} out.wav`"
    )
