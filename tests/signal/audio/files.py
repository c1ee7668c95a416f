"""Sound files to test with."""

import numpy as np
import soundfile as sf

from sottovoce.signal.audio import Writer, blocks, probe

LOSSLESS = [
    ("a.wav", None, "PCM_16"),
    ("a.wav", None, "PCM_U8"),
    ("a.wav", None, "PCM_24"),
    ("a.wav", None, "PCM_32"),
    ("a.wav", None, "FLOAT"),
    ("a.wav", None, "DOUBLE"),
    ("a.wav", "WAVEX", "PCM_24"),
    ("a.wav", "RF64", "PCM_16"),
    ("a.flac", None, "PCM_16"),
    ("a.flac", None, "PCM_24"),
    ("a.aiff", None, "PCM_16"),
    ("a.aif", "AIFF", "PCM_24"),
    ("a.wav", None, "ULAW"),
]
LOSSY = [
    ("a.ogg", None, "VORBIS"),
    ("a.oga", "OGG", "VORBIS"),
    ("a.opus", "OGG", "OPUS"),
    ("a.mp3", None, "MPEG_LAYER_III"),
]


def noise(samples, channels=1, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


def save(path, waveform, rate=16000, **options):
    sf.write(path, waveform.T, rate, **options)
    return path


def copy(source, target, block_frames=5000, like=None):
    info = probe(source)
    with Writer(target, info.sample_rate, info.channels, like=like or info) as writer:
        for block in blocks(source, block_frames):
            writer.write(block)
    return info, probe(target)


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def without_flac_length(path):
    """Write zero for the number of samples, the last 36 of the header's first 26 bytes, as a writer to a pipe does."""
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(content)
    return path


def without_mp3_index(path):
    """Bytes of an MP3 of libsndfile without its first frame, as a writer to a pipe leaves it out."""
    content = path.read_bytes()
    assert b"Xing" in content[:50] or b"Info" in content[:50]
    return content[content.index(content[:2], 4) :]


def one_sentence(error):
    message = str(error.value)
    assert "\n" not in message
    return message
