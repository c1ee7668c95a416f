"""Sound files: found, probed, read and written by blocks."""

from sottovoce.signal.audio.formats import AUDIO_SUFFIXES, PYAV_SUFFIXES, AudioInfo, Float32Array
from sottovoce.signal.audio.media import MEDIA_SUFFIXES, MediaWriter, open_writer, written_suffix
from sottovoce.signal.audio.metadata import Metadata
from sottovoce.signal.audio.reading import (
    blocks,
    find_audio,
    is_recording,
    passed_over,
    probe,
    read,
    read_metadata,
    walk_audio,
)
from sottovoce.signal.audio.writing import Writer, quantise

__all__ = [
    "AUDIO_SUFFIXES",
    "MEDIA_SUFFIXES",
    "PYAV_SUFFIXES",
    "AudioInfo",
    "Float32Array",
    "MediaWriter",
    "Metadata",
    "Writer",
    "blocks",
    "find_audio",
    "is_recording",
    "open_writer",
    "passed_over",
    "probe",
    "quantise",
    "read",
    "read_metadata",
    "walk_audio",
    "written_suffix",
]
