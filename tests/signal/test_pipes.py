"""Sound in pipes: what comes is what was sent, in every kind of WAV, and what is wrong is said."""

import io
import logging
import os
import struct
import threading

import numpy as np
import pytest
import soundfile as sf

from sottovoce.errors import AudioError
from sottovoce.signal.audio import read
from sottovoce.signal.pipes import PipeReader, PipeWriter, RawSound

SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]
EXACT_HEADER = 44


class Trickle(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content, most=7):
        self.content = content
        self.most = most

    def readable(self):
        return True

    def readinto(self, buffer):
        piece = self.content[: min(self.most, len(buffer))]
        self.content = self.content[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def wav(path, subtype="PCM_16", channels=2, samples=1000, rate=22050, kind="WAV"):
    """Write noise, and return the bytes of the file."""
    noise = np.random.default_rng(0).uniform(-1, 1, (samples, channels))
    sf.write(path, noise, rate, subtype=subtype, format=kind)
    return path.read_bytes()


def with_size(content, size):
    """Write a size into the header of a plain WAV, as programs do which do not know the length."""
    content = bytearray(content)
    assert content[36:40] == b"data"
    content[4:8] = content[40:44] = struct.pack("<I", size)
    return bytes(content)


def received(content, raw=None, block_frames=100, most=7):
    reader = PipeReader(Trickle(content, most), raw)
    blocks = list(reader.blocks(block_frames))
    assert max(block.shape[1] for block in blocks) <= block_frames
    return np.concatenate(blocks, axis=1), reader


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("most", [1, 5, 100_000])
def test_reads_what_libsndfile_reads(tmp_path, subtype, kind, most):
    content = wav(tmp_path / "a.wav", subtype, kind=kind)
    sound, reader = received(content, most=most)
    assert (reader.sample_rate, reader.channels, reader.info.subtype) == (22050, 2, subtype)
    np.testing.assert_array_equal(sound, read(tmp_path / "a.wav")[0])


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F000, 0x7FFF_FFFF])
def test_unknown_length_runs_to_the_end(tmp_path, size):
    content = wav(tmp_path / "a.wav")
    np.testing.assert_array_equal(received(with_size(content, size))[0], read(tmp_path / "a.wav")[0])


def test_what_follows_the_samples_is_no_sound(tmp_path):
    content = wav(tmp_path / "a.wav")
    tags = b"LIST\x04\x00\x00\x00INFO"
    np.testing.assert_array_equal(received(content + tags)[0], received(content)[0])
    np.testing.assert_array_equal(received(content[:12] + tags + content[12:])[0], received(content)[0])


@pytest.mark.parametrize(("encoding", "kind", "scale"), [("s16le", "<i2", 2**15), ("f32le", "<f4", 1)])
def test_raw_samples(encoding, kind, scale):
    samples = (np.random.default_rng(0).uniform(-1, 1, (500, 3)) * scale).astype(kind)
    sound, reader = received(samples.tobytes(), RawSound(encoding, 48000, 3))
    assert (reader.sample_rate, reader.channels) == (48000, 3)
    np.testing.assert_array_equal(sound, samples.T.astype(np.float32) / scale)


def test_a_block_does_not_wait_for_the_next():
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as file, open(theirs, "wb", buffering=0) as sender:  # noqa: PTH123
        blocks = PipeReader(file, RawSound("s16le", 16000, 1)).blocks(16000)
        for count in (1, 160, 3):
            sender.write(bytes(2 * count))
            assert next(blocks).shape == (1, count)


def test_end_within_a_sample_is_reported(caplog):
    sound, _ = received(bytes(4 * 10 + 3), RawSound("s16le", 16000, 2))
    assert sound.shape == (2, 10)
    assert "3 byte(s) were left out" in caplog.text


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (0, r"ended before the end of a WAV's header \(0 bytes came\)"),
        (11, r"ended before the end of a WAV's header \(11 bytes came\)"),
        (43, r"ended before the end of a WAV's header \(43 bytes came\)"),
        (EXACT_HEADER, r"ended before the first sample \(44 bytes came\)"),
        (EXACT_HEADER + 3, r"ended before the first sample \(47 bytes came\)"),
        (EXACT_HEADER + 400, r"is cut short \(its header promises 4000 bytes of sound, 400 came\)"),
    ],
)
def test_cut_wav_is_refused(tmp_path, kept, message):
    with pytest.raises(AudioError, match=message):
        received(wav(tmp_path / "a.wav")[:kept])


def test_a_header_without_end_is_refused():
    class Endless(Trickle):
        def readinto(self, buffer):
            self.content += bytes(len(buffer))
            return super().readinto(buffer)

    file = Endless(b"RIFF\xff\xff\xff\xffWAVE")
    with pytest.raises(AudioError, match="does not say what its samples are"):
        PipeReader(file)


def test_header_without_sound_is_refused(tmp_path):
    with pytest.raises(AudioError, match=r"ended before the first sample \(44 bytes came\)"):
        received(with_size(wav(tmp_path / "a.wav"), 0xFFFF_FFFF)[:EXACT_HEADER])
    with pytest.raises(AudioError, match=r"ended before the first sample \(0 bytes came\)"):
        received(b"", RawSound("f32le", 16000, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"fLaC" + content[4:], "begins with b'fLaC', expected a WAV"),
        (lambda content: content[:20] + b"\x55\x00" + content[22:], "a WAV of kind 0x55 with 16 bits"),
        (lambda content: content[:22] + b"\x00\x00" + content[24:], "found 0 channels, expected 1 to 64"),
        (lambda content: content[:22] + b"\x00\x04" + content[24:], "found 1024 channels"),
        (lambda content: content[:24] + b"\xff\xff\xff\xff" + content[28:], f"found rate {2**32 - 1} Hz"),
        (lambda content: content[:24] + b"\x01\x00\x00\x00" + content[28:], "found rate 1 Hz"),
        (lambda content: content[:12] + content[36:], "does not say what its samples are"),
        (lambda content: content[:12] + b"LIST\xff\xff\xff\xff" + content[12:], "damaged header"),
    ],
)
def test_other_kinds_are_refused(tmp_path, change, message):
    with pytest.raises(AudioError, match=message):
        received(change(wav(tmp_path / "a.wav")))


@pytest.mark.parametrize(
    ("rate", "channels", "words"),
    [
        (0, 1, "found rate 0 Hz, expected a whole number from 4000 to 384000 Hz"),
        (-1, 1, "found rate -1 Hz"),
        (2**40, 1, f"found rate {2**40} Hz"),
        (16000, 0, "found 0 channels, expected 1 to 64"),
        (16000, 1024, "found 1024 channels"),
    ],
)
def test_raw_sound_has_a_plausible_rate_and_channels(rate, channels, words):
    with pytest.raises(AudioError, match=words):
        RawSound("s16le", rate, channels)


def written(tmp_path, subtype, **options):
    """Send noise as a pipe does, and return it with what was sent."""
    wav(tmp_path / "a.wav", subtype, channels=1, samples=999)
    info = PipeReader(Trickle((tmp_path / "a.wav").read_bytes())).info
    sound, _ = read(tmp_path / "a.wav")
    file = io.BytesIO()
    with PipeWriter(file, info, **options) as writer:
        for start in range(0, 999, 100):
            writer.write(sound[:, start : start + 100])
    return sound, file.getvalue()


@pytest.mark.parametrize("frames", [None, 999])
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_what_is_written_is_read_back(tmp_path, subtype, frames):
    sound, content = written(tmp_path, subtype, frames=frames)
    back, reader = received(content)
    assert (reader.sample_rate, reader.channels, reader.info.subtype) == (22050, 1, subtype)
    # A byte that makes the number of bytes even looks like a sample where the length is not known.
    np.testing.assert_array_equal(back[:, :999], sound)
    (tmp_path / "b.wav").write_bytes(content)
    np.testing.assert_array_equal(read(tmp_path / "b.wav")[0][:, :999], sound)
    assert (reader.info.frames or None) == frames


@pytest.mark.parametrize(("raw", "kind", "scale"), [("s16le", "<i2", 2**15), ("f32le", "<f4", 1)])
def test_writes_raw_samples(tmp_path, raw, kind, scale):
    sound, content = written(tmp_path, "PCM_16", raw=raw)
    np.testing.assert_array_equal(np.frombuffer(content, kind) / scale, sound[0])


def test_what_a_wav_does_not_hold_becomes_16_bits(tmp_path):
    sf.write(tmp_path / "a.ogg", np.zeros(100), 16000)
    from sottovoce.signal.audio import probe

    assert PipeWriter(io.BytesIO(), probe(tmp_path / "a.ogg")).subtype == "PCM_16"


def test_full_scale_is_limited_with_a_warning(tmp_path, caplog):
    wav(tmp_path / "a.wav", channels=1)
    info = PipeReader(Trickle((tmp_path / "a.wav").read_bytes())).info
    file = io.BytesIO()
    with caplog.at_level(logging.WARNING), PipeWriter(file, info, raw="s16le") as writer:
        writer.write(np.array([[2.0, -2.0, 0.5]], np.float32))
    assert np.frombuffer(file.getvalue(), "<i2").tolist() == [32767, -32768, 16384]
    assert "2 samples were beyond full scale" in caplog.text


def test_pipe_that_nobody_reads_is_reported(tmp_path):
    wav(tmp_path / "a.wav", channels=1)
    info = PipeReader(Trickle((tmp_path / "a.wav").read_bytes())).info
    ours, theirs = os.pipe()
    with open(theirs, "wb", buffering=0) as file, PipeWriter(file, info) as writer:  # noqa: PTH123
        os.close(ours)
        with pytest.raises(AudioError, match=r"reads standard output closed it after 0\.0 seconds"):
            writer.write(np.zeros((1, 100), np.float32))


def test_pipe_takes_parts_of_a_block(tmp_path):
    wav(tmp_path / "a.wav", channels=1)
    info = PipeReader(Trickle((tmp_path / "a.wav").read_bytes())).info
    ours, theirs = os.pipe()
    sound = np.random.default_rng(0).uniform(-1, 1, (1, 200_000)).astype(np.float32)
    pieces = []

    def receive():
        with open(ours, "rb", buffering=0) as file:  # noqa: PTH123
            while piece := file.read(1000):
                pieces.append(piece)

    reader = threading.Thread(target=receive)
    reader.start()
    with open(theirs, "wb", buffering=0) as file, PipeWriter(file, info, raw="f32le") as writer:  # noqa: PTH123
        writer.write(sound)
    reader.join(timeout=30)
    np.testing.assert_array_equal(np.frombuffer(b"".join(pieces), "<f4"), sound[0])
