"""Lossy recordings keep their bit rate, or get the one that was asked for."""

import mutagen.id3
import numpy as np
import pytest

from sottovoce.errors import ConfigError
from sottovoce.signal.audio import Writer, probe, read
from sottovoce.signal.output import OutputOptions

from .files import noise, save


def coloured(seconds, rate, channels):
    """Noise of changing level, as an encoder of variable bit rate meets it."""
    waveform = noise(round(seconds * rate), channels)
    return waveform * np.abs(np.sin(np.arange(waveform.shape[1]) * 6 / rate)).astype(np.float32)


def write(source, target, **options):
    info = probe(source)
    with Writer(target, info.sample_rate, info.channels, like=info, options=OutputOptions(**options)) as writer:
        writer.write(read(source)[0])
    assert probe(target).frames == info.frames
    return target


KINDS = [("mp3", "MP3", "MPEG_LAYER_III"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS")]


@pytest.mark.parametrize(("suffix", "kind", "subtype"), KINDS)
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2)])
@pytest.mark.parametrize("level", [0.2, 0.8])
def test_bit_rate_stays(tmp_path, suffix, kind, subtype, rate, channels, level):
    options = {"bitrate_mode": "CONSTANT"} if kind == "MP3" and level < 0.5 else {}
    path = tmp_path / f"a.{suffix}"
    save(path, coloured(1.5, rate, channels), rate, format=kind, subtype=subtype, compression_level=level, **options)
    sizes = [file.stat().st_size for file in (path, write(path, tmp_path / f"b.{suffix}"))]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.15)


def test_cover_is_no_sound(tmp_path):
    path = save(tmp_path / "a.mp3", noise(48000), bitrate_mode="CONSTANT", compression_level=0.7)
    before = probe(path).bit_rate
    tags = mutagen.id3.ID3()
    tags.add(mutagen.id3.APIC(mime="image/png", data=bytes(100_000)))
    tags.save(path)
    assert probe(path).bit_rate == pytest.approx(before, rel=0.01)


@pytest.mark.parametrize(("suffix", "kbps"), [("mp3", 128), ("mp3", 24), ("opus", 64)])
def test_bit_rate_that_is_asked_for(tmp_path, suffix, kbps):
    target = write(save(tmp_path / "a.wav", coloured(1.5, 48000, 2), 48000), tmp_path / f"b.{suffix}", bitrate=kbps)
    # LAME takes no less than 32 kbit/s at this rate, and the index of a short file counts.
    assert probe(target).bit_rate == pytest.approx(1000 * max(32, kbps), rel=0.2)


@pytest.mark.parametrize("kbps", [80, 200])
def test_bit_rate_that_a_vorbis_names(tmp_path, kbps):
    target = write(save(tmp_path / "a.wav", coloured(1.5, 48000, 2), 48000), tmp_path / "b.ogg", bitrate=kbps)
    assert probe(target).bit_rate == pytest.approx(1000 * kbps, rel=0.02)


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus"])
def test_quality(tmp_path, suffix):
    path = save(tmp_path / "a.wav", coloured(1.5, 48000, 2), 48000)
    sizes = [write(path, tmp_path / f"{q}.{suffix}", quality=q).stat().st_size for q in (0, 1)]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_kinds_take_no_notice(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(5000))
    target = write(path, tmp_path / f"b.{suffix}", bitrate=32)
    np.testing.assert_array_equal(read(target)[0], read(path)[0])


@pytest.mark.parametrize(
    "options",
    [{"quality": 1.5}, {"quality": -0.1}, {"quality": float("nan")}, {"bitrate": 0}, {"bitrate": float("inf")}],
)
def test_numbers_out_of_range(options):
    with pytest.raises(ConfigError, match="expected"):
        OutputOptions(**options)


def test_not_both():
    with pytest.raises(ConfigError, match="both quality and bitrate"):
        OutputOptions(quality=0.5, bitrate=64)
