"""Sound files: found, probed, read and written by blocks."""

from sottovoce.signal.audio.formats import AUDIO_SUFFIXES, PYAV_SUFFIXES, AudioInfo, Float32Array
from sottovoce.signal.audio.reading import blocks, find_audio, probe, read
from sottovoce.signal.audio.writing import Writer, quantise

__all__ = [
    "AUDIO_SUFFIXES",
    "PYAV_SUFFIXES",
    "AudioInfo",
    "Float32Array",
    "Writer",
    "blocks",
    "find_audio",
    "probe",
    "quantise",
    "read",
]
