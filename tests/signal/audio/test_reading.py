"""Reading sound files: every sample once, and what cannot be read is refused in one sentence."""

import contextlib
import os
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.errors import AudioError, StorageError
from sottovoce.signal.audio import blocks, find_audio, probe, pyav, read, walk_audio

from .files import LOSSLESS, LOSSY, copy, cut, noise, one_sentence, save, without_flac_length, without_mp3_index


class TestBadInput:
    def test_missing(self, tmp_path):
        with pytest.raises(AudioError, match="found nothing at"):
            read(tmp_path / "none.wav")

    def test_folder(self, tmp_path):
        with pytest.raises(AudioError, match="found a folder at"):
            probe(tmp_path)

    @pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.m4a"])
    def test_empty(self, tmp_path, name):
        (tmp_path / name).touch()
        with pytest.raises(AudioError, match="is empty"):
            probe(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.aiff"])
    def test_no_samples(self, tmp_path, name):
        save(tmp_path / name, np.zeros((1, 0), np.float32))
        with pytest.raises(AudioError, match="holds no samples"):
            probe(tmp_path / name)

    @pytest.mark.parametrize("kind", ["WAV", "AIFF"])
    @pytest.mark.parametrize(
        ("rate", "channels", "words"),
        [
            (1, 1, "found rate 1 Hz, expected a whole number from 4000 to 384000 Hz"),
            (1_000_003, 1, "found rate 1000003 Hz"),
            (2_000_000, 2, "found rate 2000000 Hz"),
            (16000, 1024, "found 1024 channels, expected 1 to 64"),
        ],
    )
    def test_implausible_rate_or_channels(self, tmp_path, kind, rate, channels, words):
        path = save(tmp_path / f"a.{kind.lower()}", np.zeros((channels, 100), np.float32), rate)
        with pytest.raises(AudioError, match=words) as error:
            probe(path)
        one_sentence(error)
        with pytest.raises(AudioError, match=words):
            next(blocks(path, 10))

    @pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg"])
    def test_text(self, tmp_path, name):
        (tmp_path / name).write_text("This is no sound.\n" * 100)
        with pytest.raises(AudioError, match="not a sound file") as error:
            probe(tmp_path / name)
        assert "ffmpeg" in one_sentence(error)

    @pytest.mark.parametrize(
        "options",
        [
            {"format": "WAV", "subtype": "PCM_16"},
            {"format": "WAV", "subtype": "FLOAT"},
            {"format": "WAVEX", "subtype": "PCM_24"},
            {"format": "RF64", "subtype": "PCM_16"},
        ],
    )
    @pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
    def test_cut_wav(self, tmp_path, options, keep):
        path = cut(save(tmp_path / "a.wav", noise(20000), **options), keep)
        with pytest.raises(AudioError, match=r"is cut short \(its header promises \d+ bytes") as error:
            read(path)
        one_sentence(error)

    @pytest.mark.parametrize("kind", sorted(sf.available_formats().keys() - {"RAW"}))
    def test_no_kind_of_file_is_read_short(self, tmp_path, kind):
        path = save(tmp_path / "a.wav", noise(20000), format=kind, subtype=sf.default_subtype(kind))
        with contextlib.suppress(AudioError):  # a kind that is not read
            assert probe(path).frames in (20000, 20736)  # with an encoder's delay
        with pytest.raises(AudioError, match=r"cut short|not a sound file") as error:
            read(cut(path, 0.5))
        one_sentence(error)

    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16"])
    def test_voc_is_read_whole_or_not_at_all(self, tmp_path, subtype):
        path = save(tmp_path / "a.voc", noise(20000), subtype=subtype)
        assert read(path)[0].shape == (1, 20000)
        with pytest.raises(AudioError, match="is cut short"):
            probe(cut(path, 0.9))

    @pytest.mark.parametrize("options", [{"bitrate_mode": "CONSTANT"}, {"bitrate_mode": "VARIABLE"}])
    @pytest.mark.parametrize("keep", [0.3, 0.99])
    def test_cut_mp3(self, tmp_path, options, keep, capfd):
        path = cut(save(tmp_path / "a.mp3", noise(50000), compression_level=0.5, **options), keep)
        with pytest.raises(AudioError, match="is cut short"):
            probe(path)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
    @pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
    @pytest.mark.parametrize("tags", [b"", b"APETAGEX" + bytes(4) + b"\x40" + bytes(83) + b"TAG" + bytes(125)])
    def test_mp3_without_index_is_read(self, tmp_path, mode, rate, tags):
        waveform = noise(2 * rate)
        waveform[:, :rate] *= 0.001
        path = save(tmp_path / "a.mp3", waveform, rate, bitrate_mode=mode, compression_level=0.3)
        expected = read(path)[0]
        path.write_bytes(without_mp3_index(path) + tags)
        sound = read(path)[0]
        assert sound.shape == (1, probe(path).frames)
        # What the index would take away: the delays of encoder and decoder, and what fills the last frame.
        np.testing.assert_allclose(sound[:, 1105:][:, : 2 * rate], expected, atol=1e-6)
        assert sound.shape[1] % (1152 if rate > 24000 else 576) == 0
        np.testing.assert_allclose(read(path, start=3000, frames=5000)[0], sound[:, 3000:8000], atol=1e-6)

    def test_mp3_that_libsndfile_takes_for_shorter(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(10 * 44100), 44100, bitrate_mode="CONSTANT", compression_level=0.5)
        content = without_mp3_index(path)
        # A frame with a byte of padding is longer than their mean.
        header = bytes([*content[:2], content[2] | 2])
        path.write_bytes(content[content.index(header) :])
        estimate = sf.info(path).frames
        assert read(path)[0].shape[1] == probe(path).frames == -(-estimate // 1152) * 1152 != estimate

    def test_cut_mp3_without_index(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(50000), bitrate_mode="CONSTANT", compression_level=0.5)
        path.write_bytes(without_mp3_index(path))
        assert read(path)[0].shape[1] >= 50000
        cut(path, 0.9)
        with pytest.raises(AudioError, match="last MP3 frame is not complete"):
            probe(path)

    def test_mp3_of_unknown_length(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(50000), bitrate_mode="CONSTANT", compression_level=0.5)
        content = without_mp3_index(path)
        second = content.index(content[:3], 4)
        path.write_bytes(content[:second] + b"no sound" + content[second:])
        with pytest.raises(AudioError, match=f"without an index and with a gap after {second} bytes"):
            probe(path)

    def test_cut_mp3_with_the_index_of_fraunhofer(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(50000), bitrate_mode="CONSTANT", compression_level=0.5)
        content = bytearray(path.read_bytes())
        content[4:50] = bytes(32) + b"VBRI" + bytes(6) + len(content).to_bytes(4, "big")
        path.write_bytes(content)
        assert read(path)[0].shape[1] >= 50000
        cut(path, 0.9)
        with pytest.raises(AudioError, match=f"its header promises {len(content)} bytes"):
            probe(path)

    def test_mp3_behind_tags(self, tmp_path):
        path = save(tmp_path / "a.mp3", noise(20000))
        tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)
        path.write_bytes(tag + path.read_bytes() + b"TAG" + bytes(125))
        assert probe(path).frames == 20000
        cut(path, 0.8)
        with pytest.raises(AudioError, match="is cut short"):
            probe(path)

    @pytest.mark.parametrize(("name", "options"), [("a.ogg", {}), ("a.opus", {"format": "OGG", "subtype": "OPUS"})])
    def test_cut_ogg(self, tmp_path, name, options):
        path = cut(save(tmp_path / name, noise(50000), **options), 0.7)
        with pytest.raises(AudioError, match="last Ogg page is not complete"):
            probe(path)

    @pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
    def test_cut_flac(self, tmp_path, keep):
        path = cut(save(tmp_path / "a.flac", noise(50000)), keep)
        with pytest.raises(AudioError, match="cut short or damaged"):
            read(path)

    def test_cut_aiff(self, tmp_path):
        path = cut(save(tmp_path / "a.aiff", noise(20000)), 0.5)
        with pytest.raises(AudioError, match="is cut short"):
            probe(path)

    @given(kept=st.integers(0, 2000))
    @settings(max_examples=60, deadline=None)
    def test_any_cut_of_a_wav_is_noticed(self, tmp_path_factory, kept):
        path = save(tmp_path_factory.mktemp("cut") / "a.wav", noise(1000))
        content = path.read_bytes()
        assert len(content) == 2044
        path.write_bytes(content[:kept])
        with pytest.raises(AudioError):
            read(path)

    @given(kind=st.sampled_from([*LOSSLESS, *LOSSY]), kept=st.integers(0, 400))
    @settings(max_examples=200, deadline=None)
    def test_any_short_file_is_read_or_refused(self, tmp_path_factory, kind, kept):
        name, container, subtype = kind
        path = save(tmp_path_factory.mktemp("cut") / name, noise(300), format=container, subtype=subtype)
        path.write_bytes(path.read_bytes()[:kept])
        with contextlib.suppress(AudioError):
            read(path)

    @pytest.mark.skipif(sys.platform == "win32", reason="files have holes on POSIX")
    @pytest.mark.parametrize("declared", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
    def test_a_long_recording_from_a_pipe_is_read_to_its_end(self, tmp_path, declared):
        path, frames = tmp_path / "a.wav", 5 * 2**29
        format_chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
        with path.open("wb") as file:
            file.write(b"RIFF" + struct.pack("<I", declared) + b"WAVE" + format_chunk)
            file.write(b"data" + struct.pack("<I", declared))
            file.seek(2 * frames - 2, os.SEEK_CUR)
            file.write(struct.pack("<h", 1000))
        assert probe(path).frames == frames
        end, _ = read(path, start=frames - 10)
        np.testing.assert_array_equal((2**15 * end[0]).round(), [0] * 9 + [1000])

    def test_header_that_ends_within_its_sizes(self, tmp_path):
        header = b"RF64\xff\xff\xff\xffWAVEds64\x1c\x00\x00\x00" + bytes(16)
        for kept in range(12, len(header)):
            (tmp_path / "a.wav").write_bytes(header[:kept])
            with pytest.raises(AudioError, match="not a sound file"):
                probe(tmp_path / "a.wav")

    @pytest.mark.parametrize(
        ("riff_size", "data_size"),
        [
            (0, 0),
            (8, 0),
            (36, 0),
            (0xFFFFFFFF, 0),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x7FFFF024, 0x7FFFF000),
            (0x80000024, 0x80000000),
        ],
    )
    def test_streamed_wav_is_read(self, tmp_path, riff_size, data_size):
        path = save(tmp_path / "a.wav", noise(5000, 2))
        expected = read(path)[0]
        content = bytearray(path.read_bytes())
        content[4:8], content[40:44] = struct.pack("<I", riff_size), struct.pack("<I", data_size)
        path.write_bytes(content)
        assert probe(path).frames == 5000
        np.testing.assert_array_equal(read(path)[0], expected)

    def test_streamed_flac_is_read(self, tmp_path):
        path = without_flac_length(save(tmp_path / "a.flac", noise(100_000, 2)))
        info = probe(path)
        assert (info.frames, info.seconds) == (100_000, 6.25)
        save(tmp_path / "b.flac", noise(100_000, 2))
        np.testing.assert_array_equal(read(path)[0], read(tmp_path / "b.flac")[0])
        np.testing.assert_array_equal(read(path, start=99_000)[0], read(tmp_path / "b.flac", start=99_000)[0])
        assert copy(path, tmp_path / "c.flac")[1].frames == 100_000
        with pytest.raises(AudioError, match="damaged"):
            probe(cut(path, 0.7))

    def test_streamed_flac_without_samples(self, tmp_path):
        path = without_flac_length(save(tmp_path / "a.flac", noise(10)))
        path.write_bytes(path.read_bytes()[:42])
        with pytest.raises(AudioError):
            probe(path)

    def test_not_finite_samples_count_as_zero(self, tmp_path, caplog):
        waveform = noise(9000, 2)
        waveform[0, 10], waveform[1, 20], waveform[1, 8000] = np.nan, np.inf, -np.inf
        path = save(tmp_path / "a.wav", waveform, subtype="FLOAT")
        joined = np.concatenate(list(blocks(path, 1000)), axis=1)
        assert [record.message for record in caplog.records] == [
            f"{path}: 3 samples are not finite numbers and were taken as 0"
        ]
        expected = np.where(np.isfinite(waveform), waveform, 0)
        np.testing.assert_array_equal(joined, expected)

    def test_other_kinds_name_the_extra(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pyav, "find_spec", lambda name: None)
        (tmp_path / "a.m4a").write_bytes(bytes(100))
        with pytest.raises(AudioError, match=r"pip install 'sottovoce\[av\]'.*ffmpeg -i a\.m4a out\.wav"):
            probe(tmp_path / "a.m4a")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_not_readable(self, tmp_path):
        path = save(tmp_path / "a.wav", noise(10))
        path.chmod(0)
        with pytest.raises(AudioError, match="Permission denied"):
            probe(path)


class TestReading:
    @pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
    def test_parts(self, tmp_path, name):
        path = save(tmp_path / name, noise(20000, 2))
        whole, rate = read(path)
        assert rate == 16000
        assert whole.dtype == np.float32
        # An MP3 decoder that begins in the middle differs by rounding.
        np.testing.assert_allclose(read(path, start=5000, frames=3000)[0], whole[:, 5000:8000], atol=1e-6)
        np.testing.assert_allclose(read(path, start=19000, frames=3000)[0], whole[:, 19000:], atol=1e-6)
        assert read(path, start=30000)[0].shape == (2, 0)

    def test_blocks_cover_everything(self, tmp_path):
        path = save(tmp_path / "a.wav", noise(1000))
        pieces = list(blocks(path, 300))
        assert [piece.shape for piece in pieces] == [(1, 300)] * 3 + [(1, 100)]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), read(path)[0])

    @pytest.mark.parametrize("rate", [16000, 22050, 44100])
    def test_blocks_of_an_mp3_join_without_a_seam(self, tmp_path, rate):
        waveform = noise(3 * rate)
        waveform[:, :rate] *= 0.01  # Saves bits, which later frames use.
        path = save(tmp_path / "a.mp3", waveform, rate, bitrate_mode="VARIABLE", compression_level=0.8)
        whole = sf.read(path, dtype="float32", always_2d=True)[0].T
        np.testing.assert_allclose(np.concatenate(list(blocks(path, 1000)), axis=1), whole, atol=1e-6)

    def test_memory_does_not_depend_on_length(self, tmp_path):
        def peak(samples):
            path = save(tmp_path / "a.wav", np.zeros((1, samples), np.float32))
            tracemalloc.start()
            for _ in blocks(path, 4000):
                pass
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return size

        peak(8000)
        assert peak(4_000_000) < peak(40_000) + 50_000

    def test_find_audio(self, tmp_path):
        (tmp_path / "below").mkdir()
        names = ["b.wav", "A.FLAC", "below/c.opus", "below/d.m4a", "below/._c.opus", "notes.txt", ".hidden.wav"]
        for name in names:
            (tmp_path / name).touch()
        found = ["A.FLAC", "b.wav", "below/c.opus", "below/d.m4a"]
        assert find_audio(tmp_path) == [tmp_path / name for name in found]

    @pytest.mark.parametrize("at_once", [1, 2, 100])
    def test_a_folder_of_any_size_is_walked_in_order(self, tmp_path, monkeypatch, at_once):
        """Names of a large folder are sorted by way of the disk."""
        monkeypatch.setattr("sottovoce.signal.audio.reading._SORTED_AT_ONCE", at_once)
        names = ["b.wav", "a.wav", "a/z.wav", "a/b/c.wav", "a b.wav", "\n.wav", "é.wav", "a-b/c.wav", "Z/a.wav"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "nothing").mkdir()
        assert list(walk_audio(tmp_path)) == sorted(tmp_path / name for name in names)

    def test_a_large_folder_without_room_to_sort_it(self, tmp_path, monkeypatch):
        for name in "ab":
            (tmp_path / f"{name}.wav").touch()
        monkeypatch.setattr("sottovoce.signal.audio.reading._SORTED_AT_ONCE", 1)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
        with pytest.raises(StorageError, match="cannot sort the names in a large folder"):
            list(walk_audio(tmp_path))

    def test_find_audio_refuses(self, tmp_path):
        with pytest.raises(AudioError, match="found no recording in the folder"):
            find_audio(tmp_path)
        with pytest.raises(AudioError, match="found nothing at"):
            find_audio(tmp_path / "none")


class TestCompressedWav:
    """The last block of a compressed WAV is filled up: its header says how many samples are meant."""

    @pytest.mark.parametrize(("subtype", "rate"), [("GSM610", 8000), ("MS_ADPCM", 16000), ("G721_32", 8000)])
    def test_length_is_that_of_the_header(self, tmp_path, subtype, rate):
        path = save(tmp_path / "a.wav", noise(23_457), rate, subtype=subtype)
        assert sf.info(path).frames > 23_457
        assert (probe(path).frames, read(path)[0].shape) == (23_457, (1, 23_457))

    @pytest.mark.parametrize(("stated", "frames"), [(23_500, 23_500), (0, 24_408), (100, 24_408), (2**32 - 1, 24_408)])
    def test_header_that_cannot_be_believed(self, tmp_path, stated, frames):
        path = save(tmp_path / "a.wav", noise(23_457), subtype="IMA_ADPCM")
        content = path.read_bytes()
        position = content.index(b"fact") + 8
        path.write_bytes(content[:position] + struct.pack("<I", stated) + content[position + 4 :])
        assert probe(path).frames == read(path)[0].shape[1] == frames

    @pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
    @pytest.mark.parametrize("stated", [40_000, None])
    def test_mp3_in_a_wav_is_not_cut_short(self, tmp_path, mode, stated):
        frames = without_mp3_index(save(tmp_path / "a.mp3", noise(40_000), compression_level=0.5, bitrate_mode=mode))
        sound = struct.pack("<4sIHHIIHHHHIHHH", b"fmt ", 30, 0x55, 1, 16000, 4000, 1, 0, 12, 1, 2, 144, 1, 0)
        if stated:
            sound += struct.pack("<4sII", b"fact", 4, stated)
        sound += struct.pack("<4sI", b"data", len(frames)) + frames + b"LIST" + struct.pack("<I", 4) + b"INFO"
        (tmp_path / "a.wav").write_bytes(struct.pack("<4sI4s", b"RIFF", 4 + len(sound), b"WAVE") + sound)
        info = probe(tmp_path / "a.wav")
        assert info.subtype == "MPEG_LAYER_III"
        whole = -(-(40_000 + 1105) // 576) * 576
        assert info.frames == read(tmp_path / "a.wav")[0].shape[1] == (stated or whole)
        assert copy(tmp_path / "a.wav", tmp_path / "b.wav")[1].frames == info.frames


def test_empty_chunks_do_not_spin(tmp_path):
    path = save(tmp_path / "a.wav", noise(100))
    content = path.read_bytes()
    path.write_bytes(content[:36] + bytes(8) * 2**20 + content[36:])
    start = time.perf_counter()
    with contextlib.suppress(AudioError):
        probe(path)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(("WAV", subtype) for subtype in ("PCM_16", "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_16")),
        *(("AIFF", "DWVW_16"), ("AU", "G723_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_a_part_is_that_part_of_the_whole(tmp_path, kind, subtype):
    # A rising tone, since the frames of its MP3 take bits from those before.
    time = np.arange(64000) / 16000
    rising = (0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time)).astype(np.float32)
    path = save(tmp_path / "a", rising[np.newaxis], format=kind, subtype=subtype)
    whole, _ = read(path)
    for start in (1, 1234, 8000, 20000, 50000):
        part, _ = read(path, start=start, frames=3000)
        np.testing.assert_allclose(part, whole[:, start : start + 3000], atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "ULAW"])
@pytest.mark.parametrize(("name", "kind"), [("a.au", "AU"), ("a.sph", "NIST")])
def test_cut_files_that_are_only_read_are_refused(tmp_path, name, kind, subtype):
    path = save(tmp_path / name, noise(5000, 2), format=kind, subtype=subtype)
    assert probe(path).frames == 5000
    with pytest.raises(AudioError, match="is cut short"):
        probe(cut(path, 0.5))


@pytest.mark.parametrize(
    "content", [b".snd", b".snd\0\0", b"NIST_1A\nx\n", b"NIST_1A\n   1024\nsample_count -i x\n", b"text"]
)
@pytest.mark.parametrize("name", ["a.au", "a.snd", "a.sph", "a.wav"])
def test_a_name_makes_no_sound(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match="not a sound file"):
        probe(tmp_path / name)
