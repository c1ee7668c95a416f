"""A pipe through the engine: the same sound as that of a file, in memory that does not grow."""

import contextlib
import os
import struct
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile as sf

from sottovoce.engine.files import enhance_files
from sottovoce.engine.options import EnhanceOptions
from sottovoce.engine.pipes import enhance_pipe
from sottovoce.errors import AudioError, ModelError
from sottovoce.signal.audio import probe, read
from sottovoce.signal.output import OutputOptions
from sottovoce.signal.pipes import RawSound


def sent(content, piece_bytes=5000):
    """Return the reading end of a pipe into which a thread writes bytes."""
    ours, theirs = os.pipe()

    def send():
        # Who refuses what comes closes the pipe.
        with contextlib.suppress(BrokenPipeError), open(theirs, "wb", buffering=0) as file:  # noqa: PTH123
            for start in range(0, len(content), piece_bytes):
                file.write(content[start : start + piece_bytes])

    threading.Thread(target=send, daemon=True).start()
    return open(ours, "rb", buffering=0)  # noqa: PTH123


@pytest.fixture
def noise(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.4, 0.4, (30000, 2))
    sf.write(tmp_path / "a.wav", samples, 22050, subtype="PCM_24")
    return tmp_path / "a.wav"


def test_equals_the_file(tmp_path, identity, noise):
    enhance_files([noise], tmp_path / "file.wav", identity, EnhanceOptions(limit_db=20))
    with sent(noise.read_bytes()) as source, (tmp_path / "pipe.wav").open("wb", buffering=0) as target:
        seconds = enhance_pipe(source, target, identity, EnhanceOptions(limit_db=20))
    assert seconds == pytest.approx(30000 / 22050)
    expected, _ = read(tmp_path / "file.wav")
    sound, rate = read(tmp_path / "pipe.wav")
    assert (rate, probe(tmp_path / "pipe.wav").subtype) == (22050, "PCM_24")
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(sound, expected, atol=1e-6)


def test_one_side_may_be_a_file(tmp_path, identity, noise):
    with sent(noise.read_bytes()) as source:
        enhance_pipe(source, tmp_path / "new" / "b.flac", identity)
    with (tmp_path / "c.wav").open("wb", buffering=0) as target:
        enhance_pipe(noise, target, identity)
    info = probe(tmp_path / "new" / "b.flac")
    assert (info.format, info.subtype, info.frames) == ("FLAC", "PCM_24", 30000)
    np.testing.assert_allclose(read(tmp_path / "c.wav")[0], read(info.path)[0], atol=1e-6)
    # The length of a file is known before, and stands in the header.
    assert sf.info(tmp_path / "c.wav").frames == 30000


def test_header_tells_the_length_if_that_of_the_input_does(tmp_path, identity, noise):
    unknown = bytearray(noise.read_bytes())
    data = unknown.index(b"data") + 4
    unknown[data : data + 4] = b"\xff\xff\xff\xff"
    sizes = []
    for content in (noise.read_bytes(), bytes(unknown)):
        with sent(content) as source, (tmp_path / "b.wav").open("wb", buffering=0) as target:
            enhance_pipe(source, target, identity)
        written = (tmp_path / "b.wav").read_bytes()
        sizes.append(int.from_bytes(written[40:44], "little"))
        assert len(written) == 44 + 30000 * 2 * 3
    assert sizes == [30000 * 2 * 3, 0xFFFF_FFFF]


def test_header_tells_no_length_that_is_estimated(tmp_path, identity, m4a):
    with (tmp_path / "b.wav").open("wb", buffering=0) as target:
        enhance_pipe(m4a, target, identity)
    assert (tmp_path / "b.wav").read_bytes()[40:44] == b"\xff\xff\xff\xff"
    frames = read(m4a)[0].shape[1]
    assert probe(m4a).frames != frames
    assert read(tmp_path / "b.wav")[0].shape[1] == frames


def test_raw_on_both_sides(tmp_path, identity):
    samples = np.random.default_rng(0).integers(-9000, 9000, 16000).astype("<i2")
    with sent(samples.tobytes()) as source, (tmp_path / "raw").open("wb", buffering=0) as target:
        enhance_pipe(source, target, identity, source_raw=RawSound("s16le", 16000, 1), target_raw="s16le")
    back = np.fromfile(tmp_path / "raw", "<i2")
    np.testing.assert_allclose(back, samples, atol=1)


def test_cut_input_leaves_no_file(tmp_path, identity, noise):
    with sent(noise.read_bytes()[:-100]) as source, pytest.raises(AudioError, match="is cut short"):
        enhance_pipe(source, tmp_path / "b.wav", identity)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_existing_file_is_kept(tmp_path, identity, noise):
    (tmp_path / "b.wav").write_bytes(b"precious")
    with sent(noise.read_bytes()) as source, pytest.raises(AudioError, match="exists and is kept"):
        enhance_pipe(source, tmp_path / "b.wav", identity)
    assert (tmp_path / "b.wav").read_bytes() == b"precious"
    with sent(noise.read_bytes()) as source:
        enhance_pipe(source, tmp_path / "b.wav", identity, overwrite=True)
    assert probe(tmp_path / "b.wav").frames == 30000


def test_memory_does_not_depend_on_length(tmp_path, identity):
    def peak(seconds):
        content = bytes(2 * 16000 * seconds)
        with sent(content, 2**16) as source, open(os.devnull, "wb", buffering=0) as target:  # noqa: PTH123
            tracemalloc.start()
            done = enhance_pipe(source, target, identity, source_raw=RawSound("s16le", 16000, 1))
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert done == seconds
        return size

    peak(1)
    assert peak(120) < 1.2 * peak(12)


def test_a_network_that_gives_no_numbers_is_an_error(tmp_path, exploding, noise):
    with sent(noise.read_bytes()) as source, pytest.raises(ModelError, match="no numbers"):
        enhance_pipe(source, tmp_path / "out" / "b.wav", exploding)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def field_recording(tmp_path):
    """A first-order ambisonic WAV with a time reference before the samples."""
    path = tmp_path / "field.wav"
    sf.write(path, np.random.default_rng(0).uniform(-0.4, 0.4, (3000, 4)), 48000, format="WAVEX")
    content = bytearray(path.read_bytes())
    start = content.index(b"fmt ") + 8
    content[start + 20 : start + 40] = bytes(4) + bytes.fromhex("01000000 2107 D311 8644 C8C1CA000000")
    bext = struct.pack("<4sI", b"bext", 602) + bytes(338) + struct.pack("<QH", 123_456_789, 1) + bytes(254)
    content[12:12] = bext
    content[4:8] = struct.pack("<I", len(content) - 8)
    path.write_bytes(content)
    return path, bext


def format_of(path):
    content = path.read_bytes()
    return content[content.index(b"fmt ") + 8 :][:40]


@pytest.mark.parametrize("metadata", [True, False])
def test_metadata_and_layout_pass(tmp_path, identity, field_recording, metadata):
    path, bext = field_recording
    options = OutputOptions(metadata=metadata)
    with sent(path.read_bytes()) as source, (tmp_path / "a.wav").open("wb", buffering=0) as target:
        enhance_pipe(source, target, identity, output_options=options)
    with sent(path.read_bytes()) as source:
        enhance_pipe(source, tmp_path / "b.wav", identity, output_options=options)
    with (tmp_path / "c.wav").open("wb", buffering=0) as target:
        enhance_pipe(path, target, identity, output_options=options)
    for name in "abc":
        copy = tmp_path / f"{name}.wav"
        assert format_of(copy) == format_of(path)
        assert (bext in copy.read_bytes()) == metadata
        assert int.from_bytes(copy.read_bytes()[4:8], "little") == copy.stat().st_size - 8
        assert probe(copy).frames == 3000
        np.testing.assert_array_equal(read(copy)[0], read(tmp_path / "a.wav")[0])


def test_what_follows_the_samples_is_reported_or_kept(tmp_path, identity, noise, caplog):
    content = noise.read_bytes() + b"LIST" + struct.pack("<I", 14) + b"INFOIART" + struct.pack("<I", 2) + b"A\0"
    noise.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    with sent(noise.read_bytes()) as source:
        enhance_pipe(source, tmp_path / "b.wav", identity)
    assert [record.getMessage() for record in caplog.records] == [
        "standard input: 22 bytes behind the samples, such as markers and tags, were left out: "
        "name the file to keep them"
    ]
    with (tmp_path / "c.wav").open("wb", buffering=0) as target:
        enhance_pipe(noise, target, identity)
    assert content[-22:] in (tmp_path / "c.wav").read_bytes()
