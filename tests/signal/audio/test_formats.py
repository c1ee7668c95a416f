"""Kinds of sound files: what goes in comes out, and what they cannot hold is refused in one sentence."""

import numpy as np
import pytest

from sottovoce.errors import AudioError
from sottovoce.signal.audio import AudioInfo, Writer, formats, probe, read

from .files import LOSSLESS, LOSSY, copy, noise, one_sentence, save


class TestFormats:
    @pytest.mark.parametrize(("name", "kind", "subtype"), LOSSLESS)
    def test_copy_is_exact(self, tmp_path, name, kind, subtype):
        source = save(tmp_path / name, noise(12345, 2), format=kind, subtype=subtype)
        target = tmp_path / f"copy-{name}"
        before, after = copy(source, target)
        assert (after.format, after.subtype) == (before.format, before.subtype)
        assert (after.sample_rate, after.channels, after.frames) == (16000, 2, 12345)
        np.testing.assert_array_equal(read(target)[0], read(source)[0])

    @pytest.mark.parametrize(("name", "kind", "subtype"), LOSSY)
    @pytest.mark.parametrize("samples", [1, 777, 40000])
    def test_copy_keeps_length(self, tmp_path, name, kind, subtype, samples):
        source = save(tmp_path / name, noise(samples), format=kind, subtype=subtype)
        before, after = copy(source, tmp_path / f"copy-{name}")
        assert (after.format, after.subtype, after.frames) == (before.format, subtype, samples)
        assert read(tmp_path / f"copy-{name}")[0].shape == (1, samples)

    @pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
    @pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.aiff"])
    def test_rates(self, tmp_path, name, rate):
        source = save(tmp_path / name, noise(3000), rate)
        _, after = copy(source, tmp_path / f"copy-{name}")
        assert (after.sample_rate, after.frames) == (rate, 3000)
        assert after.seconds == pytest.approx(3000 / rate)

    @pytest.mark.parametrize("rate", [4000, 65_535, 65_536, 65_537, 65_540, 96_001, 200_000, 200_001, 383_999, 384_000])
    @pytest.mark.parametrize("suffix", formats.AUDIO_SUFFIXES)
    def test_every_rate_is_written_or_refused_before_anything_is(self, tmp_path, suffix, rate):
        path, refusal = tmp_path / f"a{suffix}", None
        try:
            with Writer(path, rate, 1) as writer:
                writer.write(noise(2000))
        except AudioError as error:
            refusal = str(error)
        if refusal is None:
            assert (probe(path).sample_rate, probe(path).frames) == (rate, 2000)
        else:
            assert f"found {rate} Hz and 1 channels, expected" in refusal
            assert suffix not in refusal.partition("; write ")[2].replace(" or ", ", ").split(", ")

    def test_rates_of_flac(self, tmp_path):
        with pytest.raises(AudioError) as error:
            Writer(tmp_path / "a.flac", 96_001, 1)
        assert "expected 4000 to 65535, or a multiple of 10 up to 384000, Hz and at most 8 channels" in str(error.value)

    @pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.aiff"])
    def test_eight_channels(self, tmp_path, name):
        source = save(tmp_path / name, noise(2000, 8))
        _, after = copy(source, tmp_path / f"copy-{name}")
        assert (after.channels, after.frames) == (8, 2000)

    @pytest.mark.parametrize(
        ("source", "target", "subtype"),
        [
            (("a.wav", "FLOAT"), "b.flac", "PCM_24"),
            (("a.wav", "PCM_16"), "b.flac", "PCM_16"),
            (("a.wav", "PCM_U8"), "b.flac", "PCM_16"),
            (("a.flac", "PCM_24"), "b.wav", "PCM_24"),
            (("a.mp3", "MPEG_LAYER_III"), "b.wav", "PCM_16"),
            (("a.wav", "PCM_24"), "b.opus", "OPUS"),
            (("a.wav", "IMA_ADPCM"), "b.wav", "PCM_16"),
            (("a.wav", "FLOAT"), "B.AIFF", "FLOAT"),
        ],
    )
    def test_other_kind_gets_a_sensible_subtype(self, tmp_path, source, target, subtype):
        path = save(tmp_path / source[0], noise(4000), subtype=source[1])
        assert copy(path, tmp_path / target)[1].subtype == subtype

    def test_without_a_model_file_wav_is_16_bit(self, tmp_path):
        with Writer(tmp_path / "a.wav", 16000, 1) as writer:
            writer.write(noise(100))
        assert probe(tmp_path / "a.wav").subtype == "PCM_16"

    def test_long_recordings_become_rf64(self, tmp_path):
        like = AudioInfo(tmp_path / "x.flac", 96000, 8, 2**29, "FLAC", "PCM_24")
        with Writer(tmp_path / "a.wav", 96000, 8, like=like) as writer:
            writer.write(noise(100, 8))
        assert probe(tmp_path / "a.wav").format == "RF64"

    @pytest.mark.parametrize(
        ("kind", "subtype"),
        [("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "ULAW")],
    )
    def test_a_wav_that_grows_becomes_rf64(self, tmp_path, monkeypatch, kind, subtype):
        like = AudioInfo(tmp_path / "-", 48000, 2, 0, kind, subtype)

        def write(name):
            with Writer(tmp_path / name, 48000, 2, like=like) as writer:
                for block in np.split(noise(100_000, 2), 10, axis=1):
                    writer.write(block)
            return probe(tmp_path / name)

        short = write("short.wav")
        monkeypatch.setattr(formats, "_SIZE_LIMIT_BYTES", 150_000)
        long = write("long.wav")
        assert (short.format, short.subtype, short.frames) == (kind, subtype, 100_000)
        assert (long.format, long.subtype, long.frames) == ("RF64", subtype, 100_000)
        np.testing.assert_array_equal(read(long.path)[0], read(short.path)[0])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["long.wav", "short.wav"]

    @pytest.mark.parametrize("frames", [0, 30_000])
    def test_an_aiff_that_grows_is_refused(self, tmp_path, monkeypatch, frames):
        monkeypatch.setattr(formats, "_SIZE_LIMIT_BYTES", 50_000)
        like = AudioInfo(tmp_path / "-", 48000, 1, frames, "WAV", "PCM_16")
        with pytest.raises(AudioError, match=r"more than the 4 GiB .* name a \.wav or \.flac") as error:
            copy(save(tmp_path / "a.flac", noise(30_000), 48000), tmp_path / "a.aiff", like=like)
        one_sentence(error)
        assert [path.name for path in tmp_path.iterdir()] == ["a.flac"]

    @pytest.mark.parametrize(
        ("name", "rate", "channels"),
        [
            ("a.opus", 44100, 1),
            ("a.mp3", 96000, 1),
            ("a.mp3", 48000, 8),
            ("a.flac", 48000, 9),
            ("a.ogg", 300000, 1),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path, name, rate, channels):
        with pytest.raises(AudioError, match=r"found \d+ Hz and \d+ channels, expected .* write \.wav") as error:
            Writer(tmp_path / name, rate, channels)
        assert name in one_sentence(error)

    def test_refuses_unknown_ending(self, tmp_path):
        with pytest.raises(AudioError, match=r"found the ending '\.m4a', expected \.wav"):
            Writer(tmp_path / "a.m4a", 48000, 1)
