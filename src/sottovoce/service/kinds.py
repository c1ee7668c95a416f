"""Kinds of files: from what a client calls its recording, or from what it holds, to endings and media types."""

from sottovoce.signal.audio import AUDIO_SUFFIXES, MEDIA_SUFFIXES, AudioInfo
from sottovoce.signal.audio.formats import FOUND_SUFFIXES

# Of recordings whose name has no ending that is known, by what they hold.
_SUFFIXES = {
    "WAV": ".wav",
    "WAVEX": ".wav",
    "RF64": ".wav",
    "FLAC": ".flac",
    "OGG": ".ogg",
    "MP3": ".mp3",
    "AIFF": ".aiff",
    "CAF": ".caf",
    "W64": ".w64",
    "AAC": ".aac",
    "MOV": ".mp4",
    "MATROSKA": ".mkv",
}
_MEDIA_TYPES = {
    **dict.fromkeys((".wav", ".wave", ".bwf", ".rf64"), "audio/wav"),
    **dict.fromkeys((".ogg", ".oga", ".opus"), "audio/ogg"),
    **dict.fromkeys((".aiff", ".aif", ".aifc"), "audio/aiff"),
    **dict.fromkeys((".m4a", ".m4b"), "audio/mp4"),
    **dict.fromkeys((".mp4", ".m4v"), "video/mp4"),
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".aac": "audio/aac",
    ".caf": "audio/x-caf",
    ".3gp": "video/3gpp",
    ".3g2": "video/3gpp2",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".mka": "audio/x-matroska",
    ".webm": "video/webm",
    ".weba": "audio/webm",
}


def upload_suffix(name: str) -> str:
    """Take from a client's file name what may stand in a name of our own.

    Args:
        name: Anything.

    Returns:
        The ending of a kind of recording that is known, or nothing.
    """
    suffix = f".{name.rpartition('.')[2].lower()}"
    return next((known for known in FOUND_SUFFIXES if known == suffix), "")


def output_suffix(recording: AudioInfo) -> str:
    """Choose the kind of file for an enhanced recording, as the command does: its own, or WAV if that is only read.

    Args:
        recording: What was found out about the recording. Where its name says nothing, what it holds decides.

    Returns:
        The ending of a kind that is written.
    """
    suffix = recording.path.suffix
    if not suffix:
        return _SUFFIXES.get(recording.format, ".wav")
    return suffix if suffix in (*AUDIO_SUFFIXES, *MEDIA_SUFFIXES) else ".wav"


def media_type(suffix: str) -> str:
    """Name the media type of a kind of file.

    Args:
        suffix: Ending of a kind that is written.

    Returns:
        Such as audio/wav.
    """
    return _MEDIA_TYPES.get(suffix, "application/octet-stream")
