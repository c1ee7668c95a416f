"""Where the channels of a recording belong stays in a copy."""

import struct

import mutagen
import numpy as np
import pytest

from sottovoce.signal.audio import AudioInfo, Writer, blocks, formats, probe, read, read_metadata
from sottovoce.signal.audio.layout import ChannelLayout
from sottovoce.signal.output import OutputOptions

from .files import noise, save

QUAD_WITH_CENTRE = ChannelLayout(0x107)
AMBISONIC = ChannelLayout(0, is_ambisonic=True)
AMBISONIC_GUID = bytes.fromhex("01000000 2107 D311 8644 C8C1CA000000")


def with_layout(path, layout, channels=4, **options):
    """A WAV of libsndfile with another mask and sample format."""
    save(path, noise(3000, channels), format="WAVEX", **options)
    content = bytearray(path.read_bytes())
    start = content.index(b"fmt ") + 8
    content[start + 20 : start + 24] = struct.pack("<I", layout.mask)
    if layout.is_ambisonic:
        content[start + 26 : start + 40] = AMBISONIC_GUID[2:]
    path.write_bytes(content)
    return path


def copy(source, target, **options):
    info = probe(source)
    with Writer(
        target,
        info.sample_rate,
        info.channels,
        like=info,
        metadata=read_metadata(info),
        options=OutputOptions(**options),
    ) as writer:
        for block in blocks(source, 1000):
            writer.write(block)
    return target


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("layout", [QUAD_WITH_CENTRE, AMBISONIC, ChannelLayout(0)])
@pytest.mark.parametrize("metadata", [True, False])
def test_wav(tmp_path, subtype, layout, metadata, caplog):
    path = with_layout(tmp_path / "a.wav", layout, subtype=subtype)
    assert probe(path).layout == layout
    target = copy(path, tmp_path / "b.wav", metadata=metadata)
    format_chunks = [file.read_bytes()[20:60] for file in (path, target)]
    assert format_chunks[0] == format_chunks[1]
    np.testing.assert_array_equal(read(target)[0], read(path)[0])
    assert not caplog.records


def test_rf64(tmp_path, monkeypatch):
    path = with_layout(tmp_path / "a.wav", AMBISONIC)
    monkeypatch.setattr(formats, "_SIZE_LIMIT_BYTES", 10_000)
    target = copy(path, tmp_path / "b.wav")
    assert (probe(target).format, probe(target).layout) == ("RF64", AMBISONIC)


def test_plain_wav_stays_plain(tmp_path):
    path = save(tmp_path / "a.wav", noise(1000, 6))
    assert probe(path).layout is None
    assert probe(copy(path, tmp_path / "b.wav")).format == "WAV"


@pytest.mark.parametrize("metadata", [True, False])
def test_flac(tmp_path, metadata):
    path = save(tmp_path / "a.flac", noise(3000, 4))
    tags = mutagen.File(path)
    tags["waveformatextensible_channel_mask"] = "0x0107"
    tags.save()
    assert probe(path).layout == QUAD_WITH_CENTRE
    target = copy(path, tmp_path / "b.flac", metadata=metadata)
    assert mutagen.File(target)["waveformatextensible_channel_mask"] == ["0x0107"]


def test_from_wav_to_flac_and_back(tmp_path, caplog):
    flac = copy(with_layout(tmp_path / "a.wav", QUAD_WITH_CENTRE), tmp_path / "b.flac")
    assert probe(flac).layout == QUAD_WITH_CENTRE
    assert probe(copy(flac, tmp_path / "c.wav")).layout == QUAD_WITH_CENTRE
    assert not caplog.records


@pytest.mark.parametrize("value", ["", "0xZZ", "-1", "0x100000000"])
def test_mask_that_is_none(tmp_path, value):
    path = save(tmp_path / "a.flac", noise(3000, 4))
    tags = mutagen.File(path)
    tags["waveformatextensible_channel_mask"] = value
    tags.save()
    assert probe(path).layout is None


@pytest.mark.parametrize(
    ("layout", "channels", "target", "words"),
    [
        (AMBISONIC, 4, "b.flac", "ambisonic layout"),
        (QUAD_WITH_CENTRE, 4, "b.ogg", "speakers of the channels"),
        (ChannelLayout(0x3), 2, "b.ogg", None),
    ],
)
def test_what_is_lost_is_named(tmp_path, layout, channels, target, words, caplog):
    copy(with_layout(tmp_path / "a.wav", layout, channels), tmp_path / target)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.rpartition(": ")[2] for message in messages] == ([words] if words else [])


def test_of_a_pipe(tmp_path):
    like = AudioInfo(tmp_path / "-", 16000, 4, 0, "WAV", "PCM_16", QUAD_WITH_CENTRE)
    with Writer(tmp_path / "a.wav", 16000, 4, like=like) as writer:
        writer.write(noise(100, 4))
    assert probe(tmp_path / "a.wav").layout == QUAD_WITH_CENTRE
