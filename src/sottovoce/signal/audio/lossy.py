"""How many bits per second a lossy recording takes, and how libsndfile's encoders are brought to take as many."""

import io
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import soundfile as sf

from sottovoce.signal.audio.comments import ogg_sound_start
from sottovoce.signal.audio.containers import id3_length

# Least and most kbit/s of an MP3, by the least rate in Hz.
_MP3_KBPS = {32_000: (32, 320), 16_000: (8, 160), 0: (8, 64)}
# Least and most kbit/s of one channel of an Opus.
_OPUS_KBPS = (6, 256)
# A frame needs so many bytes for the index, which gives the length; only other modes have one in a longer frame.
_MP3_INDEX_BYTES = 192
# Of compression levels, libsndfile takes no 1 for an MP3.
_MAX_LEVEL = 0.999
_VORBIS_LEVELS = [step / 256 for step in range(257)]


class Encoding(NamedTuple):
    """What libsndfile's encoder is asked for; None for its own choice.

    Attributes:
        compression_level: 0 (the most bits) to 1.
        bitrate_mode: CONSTANT, AVERAGE or VARIABLE, of an MP3.
    """

    compression_level: float | None = None
    bitrate_mode: str | None = None


def read_bit_rate(path: Path, subtype: str, seconds: float) -> float:
    """Find out how many bits per second a lossy recording takes.

    Args:
        path: A recording.
        subtype: Its sample format in libsndfile's words.
        seconds: Its length, positive.

    Returns:
        Bits per second: of a Vorbis those that it names, which its quality sets, otherwise the mean; 0 for sample
        formats that are not lossy.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if subtype == "MPEG_LAYER_III":
            return 8 * (size - id3_length(file.read(10))) / seconds
        if subtype in ("VORBIS", "OPUS"):
            nominal = _nominal_bit_rate(file.read(64)) if subtype == "VORBIS" else 0
            return nominal or 8 * (size - ogg_sound_start(file)) / seconds
    return 0.0


def encoding_of_bit_rate(subtype: str, sample_rate: int, channels: int, bit_rate: float) -> Encoding:
    """Choose how to encode, so that sound takes about so many bits per second.

    Args:
        subtype: Sample format in libsndfile's words.
        sample_rate: Rate in Hz.
        channels: Number of channels.
        bit_rate: Bits per second, positive; beyond what the encoder can, its least or most is taken.

    Returns:
        What the encoder is asked for; nothing where the sample format is not lossy.
    """
    kbps = bit_rate / 1000
    if subtype == "MPEG_LAYER_III":
        least, most = next(limits for rate, limits in _MP3_KBPS.items() if sample_rate >= rate)
        frame_bytes = (144 if sample_rate >= 32_000 else 72) * kbps * 1000 / sample_rate
        mode = "CONSTANT" if frame_bytes >= _MP3_INDEX_BYTES else "AVERAGE"
        return Encoding(_level(kbps, least, most), mode)
    if subtype == "OPUS":
        return Encoding(_level(kbps / channels, *_OPUS_KBPS))
    if subtype == "VORBIS":
        return Encoding(_vorbis_level(sample_rate, channels, bit_rate))
    return Encoding()


def encoding_of_quality(subtype: str, quality: float) -> Encoding:
    """Choose how to encode, in the encoder's own measure.

    Args:
        subtype: Sample format in libsndfile's words.
        quality: 0 (the smallest file) to 1.

    Returns:
        What the encoder is asked for; nothing where the sample format is not lossy.
    """
    if subtype == "MPEG_LAYER_III":
        return Encoding(min(1 - quality, _MAX_LEVEL), "VARIABLE")
    return Encoding(1 - quality) if subtype in ("VORBIS", "OPUS") else Encoding()


def _level(kbps: float, least: float, most: float) -> float:
    """Compression level by which an encoder of evenly spaced levels takes so many bits."""
    return min(max(0.0, (most - kbps) / (most - least)), _MAX_LEVEL)


@lru_cache
def _vorbis_level(sample_rate: int, channels: int, bit_rate: float) -> float | None:
    """Compression level at which libvorbis itself names so many bits per second."""

    def nominal(level: float) -> float:
        file = io.BytesIO()
        sf.SoundFile(file, "w", sample_rate, channels, "VORBIS", format="OGG", compression_level=level).close()
        return _nominal_bit_rate(file.getvalue()[:64])

    try:
        return bisect_left(_VORBIS_LEVELS, -bit_rate, key=lambda level: -nominal(level), hi=256) / 256
    except sf.SoundFileError:  # which says the same, with its reason, when the file is opened
        return None


def _nominal_bit_rate(head: bytes) -> float:
    """Bits per second that the first page of a Vorbis names; 0 if it names none."""
    return float(max(0, int.from_bytes(head[48:52], "little", signed=True)))
