"""Sound files to test with."""

from fractions import Fraction

import numpy as np
import pytest
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


def tone(seconds, frequency_hz=440, rate=48000):
    """A sine from the first sample on, `(1, samples)`."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)[np.newaxis]


def film(path, *tracks, codec="pcm_s16le", default=0, picture_seconds=2.0, languages=(), rate=48000, bit_rate=0):
    """Write a film; each of its sound tracks is a list of (beginning in seconds, samples `(1, n)`)."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        packets = []
        if picture_seconds:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            for number in range(round(picture_seconds * 25)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * number % 256, np.uint8), format="rgb24")
                packets += [(packet, [(0, 0)]) for packet in picture.encode(frame)]
            packets += [(packet, [(0, 0)]) for packet in picture.encode(None)]
        for number, pieces in enumerate(tracks):
            stream = container.add_stream(codec, rate=rate, layout="mono", bit_rate=bit_rate)
            if languages:
                stream.metadata["language"] = languages[number]
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            taken, shifts = 0, []
            for begin_seconds, samples in pieces:
                shifts.append((taken, round(begin_seconds * rate) - taken))
                integers = np.rint(samples * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(integers, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, taken, Fraction(1, rate)
                taken += samples.shape[1]
                # An encoder's frames reach over the ends of pieces, and its timestamps have no holes: they are moved.
                packets += [(packet, shifts) for packet in stream.encode(frame)]
            packets += [(packet, shifts) for packet in stream.encode(None)]
        for packet, shifts in packets:
            sample = packet.pts * packet.time_base * rate
            shift = [shift for begin, shift in shifts if begin <= max(sample, 0)][-1]
            ticks = round(shift / (packet.time_base * rate))
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        container.mux(sorted((packet for packet, _ in packets), key=lambda packet: packet.dts * packet.time_base))
    return path
