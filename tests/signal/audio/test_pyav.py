"""Reading what libsndfile does not read."""

import shutil
from fractions import Fraction

import mutagen.mp4
import numpy as np
import pytest
import soundfile as sf

from sottovoce.errors import AudioError, UnknownFormatError
from sottovoce.signal.audio import Writer, blocks, probe, read, read_metadata

from .files import cut, film, noise, save, tone

# The smallest picture: a black pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000 3a7e9b55"
    "0000000a49444154789c6360000000020001 48afa471 0000000049454e44ae426082"
)


class TestPyAV:
    @pytest.fixture(params=[("a.m4a", "aac"), ("a.webm", "libopus"), ("a.aac", "aac")], ids=lambda p: p[0])
    def recording(self, request, tmp_path):
        av = pytest.importorskip("av")
        name, codec = request.param
        tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32)
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[np.newaxis], format="flt", layout="stereo")
            frame.sample_rate = 48000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        return tmp_path / name

    def test_is_decoded(self, recording):
        info = probe(recording)
        assert (info.sample_rate, info.channels, info.format) == (48000, 2, recording.suffix[1:].upper())
        assert info.seconds == pytest.approx(1, abs=0.1)
        waveform, _ = read(recording)
        assert np.abs(np.fft.rfft(waveform[0, 4000:44000])).argmax() == round(440 * 40000 / 48000)
        assert 0.3 < np.abs(waveform).max() < 0.7
        np.testing.assert_array_equal(np.concatenate(list(blocks(recording, 5000)), axis=1), waveform)
        np.testing.assert_array_equal(read(recording, start=1234, frames=20000)[0], waveform[:, 1234:21234])
        assert {block.shape[1] for block in list(blocks(recording, 5000))[:-1]} == {5000}

    @pytest.mark.parametrize("has_its_name", [True, False])
    @pytest.mark.parametrize(
        ("suffix", "codec"),
        [
            (".avi", "ac3"),
            (".ac3", "ac3"),
            (".amr", "libopencore_amrnb"),
            (".wma", "wmav2"),
            (".flv", "aac"),
            (".mpg", "mp2"),
            (".tta", "tta"),
            (".wv", "wavpack"),
            (".3gp", "libopencore_amrnb"),
        ],
    )
    def test_what_people_have_is_read_by_its_content(self, tmp_path, suffix, codec, has_its_name):
        rate = 8000 if "amr" in codec else 44100 if suffix == ".flv" else 48000
        bit_rate = 12200 if "amr" in codec else 64000
        pieces = [(0.0, tone(1.0, rate=rate))]
        path = film(tmp_path / f"a{suffix}", pieces, codec=codec, picture_seconds=0, rate=rate, bit_rate=bit_rate)
        if not has_its_name:
            path = path.replace(tmp_path / "a.wav")
        info = probe(path)
        assert (info.sample_rate, info.channels, info.needs_pyav) == (rate, 1, True)
        sound, _ = read(path)
        assert sound.shape[1] == pytest.approx(rate, abs=0.1 * rate)
        assert np.abs(np.fft.rfft(sound[0, rate // 4 : 3 * rate // 4])).argmax() == 220

    @pytest.mark.parametrize("recording", [("a.m4a", "aac")], indirect=True)
    def test_is_refused_when_cut(self, recording):
        with pytest.raises(AudioError, match="cut or damaged"):
            probe(cut(recording, 0.5))

    @pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac"])
    def test_content_decides_whatever_the_name(self, tmp_path, recording, name):
        shutil.copy(recording, tmp_path / name)
        info = probe(tmp_path / name)
        assert info.needs_pyav
        assert info.frames == probe(recording).frames
        np.testing.assert_array_equal(read(tmp_path / name)[0], read(recording)[0])

    def test_a_wav_with_another_name(self, tmp_path):
        path = save(tmp_path / "a.wav", noise(1000)).rename(tmp_path / "a.m4a")
        assert not probe(path).needs_pyav
        assert read(path)[0].shape == (1, 1000)

    @pytest.mark.parametrize("layout", ["5.1", "7.1"])
    def test_every_channel_is_read(self, tmp_path, layout):
        av = pytest.importorskip("av")
        channels = av.AudioLayout(layout).nb_channels
        sound = np.concatenate([tone(0.2, 200 + 100 * number) for number in range(channels)])
        with av.open(str(tmp_path / "a.mka"), "w") as container:
            stream = container.add_stream("pcm_f32le", rate=48000, layout=layout)
            packed = np.ascontiguousarray(sound.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.sample_rate = 48000
            container.mux([*stream.encode(frame), *stream.encode(None)])
        np.testing.assert_array_equal(read(tmp_path / "a.mka")[0], sound)

    def test_a_list_of_other_files_is_not_followed(self, tmp_path):
        av = pytest.importorskip("av")
        film(tmp_path / "private.aac", [(0.0, tone(1.0))], codec="aac", picture_seconds=0)
        path = tmp_path / "a.mp4"
        path.write_text("ffconcat version 1.0\nfile private.aac\n")
        with av.open(str(path)) as container:
            assert container.streams.audio  # FFmpeg itself would follow it
        with pytest.raises(UnknownFormatError, match="not a sound file"):
            probe(path)

    def test_garbage(self, tmp_path):
        pytest.importorskip("av")
        (tmp_path / "a.m4a").write_bytes(b"no sound" * 100)
        with pytest.raises(AudioError, match="not a sound file"):
            probe(tmp_path / "a.m4a")


class TestTime:
    """Sound stays where it is beside the picture."""

    def test_a_late_start_is_silence(self, tmp_path):
        path = film(tmp_path / "a.mov", [(0.678, tone(1.0))])
        sound, rate = read(path)
        begin = round(0.678 * rate)
        assert not sound[:, :begin].any()
        np.testing.assert_allclose(sound[:, begin:], tone(1.0), atol=1e-4)
        assert probe(path).frames == sound.shape[1]
        np.testing.assert_array_equal(read(path, start=begin - 7, frames=100)[0], sound[:, begin - 7 : begin + 93])
        assert {block.shape[1] for block in list(blocks(path, 5000))[:-1]} == {5000}

    @pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.webm", "libopus")])
    def test_coded_sound_begins_when_it_should(self, tmp_path, name, codec):
        if name == "a.webm":
            path = film(tmp_path / name, [(0.5, tone(1.0))], codec=codec, picture_seconds=0)
            # Without a picture nothing is to be in time with: the sound's own beginning is the beginning.
            assert probe(path).seconds == pytest.approx(1.0, abs=0.05)
            return
        sound, rate = read(film(tmp_path / name, [(0.5, tone(1.0))], codec=codec))
        begin = np.argmax(np.abs(sound[0]) > 0.1) / rate
        assert begin == pytest.approx(0.5, abs=0.025)
        assert sound.shape[1] / rate == pytest.approx(1.5, abs=0.05)

    def test_holes_are_silence(self, tmp_path):
        pieces = [(0.0, tone(0.5)), (0.9, tone(0.25, 880)), (1.4, tone(0.25, 660))]
        path = film(tmp_path / "a.mkv", pieces)
        sound, rate = read(path)
        assert sound.shape[1] == round(1.65 * rate) == probe(path).frames
        expected = np.zeros_like(sound)
        for begin, samples in pieces:
            expected[:, round(begin * rate) : round(begin * rate) + samples.shape[1]] = samples
        np.testing.assert_allclose(sound, expected, atol=1e-4)

    def test_sound_without_a_picture_keeps_its_holes(self, tmp_path):
        path = film(tmp_path / "a.mka", [(3.0, tone(0.5)), (4.0, tone(0.5))], codec="flac", picture_seconds=0)
        assert read(path)[0].shape[1] / 48000 == pytest.approx(1.5, abs=0.002)

    def test_timestamps_in_milliseconds_leave_no_holes(self, tmp_path):
        """48 kHz in frames of 1024 samples: no timestamp of a Matroska file is exact."""
        sound = read(film(tmp_path / "a.mkv", [(0.0, tone(2.0))], codec="flac"))[0]
        np.testing.assert_allclose(sound, tone(2.0), atol=1e-4)

    def test_a_jump_by_hours_is_damage(self, tmp_path, caplog):
        path = film(tmp_path / "a.mkv", [(0.0, tone(0.5)), (7200.0, tone(0.5))], codec="flac")
        assert read(path)[0].shape[1] == 48000
        assert probe(path).seconds == pytest.approx(1.0, abs=0.05)
        assert "its timestamps jump by 2.0 hours" in caplog.text

    @pytest.mark.parametrize(("default", "frequency_hz"), [(0, 440), (1, 880), (None, 440)])
    def test_the_default_track_is_taken_and_said(self, tmp_path, default, frequency_hz, caplog):
        tracks = [[(0.0, tone(1.0, frequency))] for frequency in (440, 880)]
        path = film(tmp_path / "a.mkv", *tracks, codec="flac", default=default, languages=("ger", "eng"))
        sound, rate = read(path)
        assert np.abs(np.fft.rfft(sound[0, :rate])).argmax() == frequency_hz
        assert f"a.mkv has 2 sound tracks: number {1 + (default or 0)} ({'eng' if default else 'ger'})" in caplog.text

    def test_one_track_needs_no_word(self, tmp_path, caplog):
        read(film(tmp_path / "a.mkv", [(0.0, tone(0.5))], codec="flac"))
        assert not caplog.records


class TestMetadata:
    @pytest.fixture
    def recording(self, tmp_path, m4a):
        path = shutil.copy(m4a, tmp_path / "talk.m4a")
        tags = mutagen.mp4.MP4(path)
        tags["\xa9nam"], tags["\xa9ART"], tags["trkn"], tags["\xa9wrt"] = "Zwölf", "Anna", [(3, 9)], "Bo"
        tags["covr"] = [mutagen.mp4.MP4Cover(PNG, mutagen.mp4.MP4Cover.FORMAT_PNG)]
        tags.save()
        return path

    def test_wav_gets_the_tags_that_it_has_a_place_for(self, tmp_path, recording, caplog):
        info = probe(recording)
        with Writer(
            tmp_path / "talk.wav", info.sample_rate, info.channels, like=info, metadata=read_metadata(info)
        ) as writer:
            writer.write(0.1 * read(recording)[0])
        with sf.SoundFile(tmp_path / "talk.wav") as file:
            assert (file.title, file.artist, file.tracknumber) == ("Zwölf", "Anna", "3/9")
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path / 'talk.wav'}: left out, since this kind of file has no place for it: cover, composer"
        ]

    def test_chapters_are_named(self, tmp_path, recording):
        av = pytest.importorskip("av")
        with av.open(str(recording)) as source, av.open(str(tmp_path / "b.m4a"), "w") as target:
            stream = target.add_stream_from_template(source.streams.audio[0])
            chapter = {"id": 0, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
            target.set_chapters([chapter])
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        assert read_metadata(probe(tmp_path / "b.m4a")).unkept == ("chapters",)
