"""Sound of films and phones: the sound is replaced, everything else stays."""

from fractions import Fraction

import numpy as np
import pytest

from sottovoce.errors import AudioError
from sottovoce.signal.audio import blocks, open_writer, probe, read, read_metadata
from sottovoce.signal.output import OutputOptions

from .files import film, noise, save, tone

av = pytest.importorskip("av")


def replace_sound(source, target, gain=1.0, **options):
    info = probe(source)
    with open_writer(target, info, metadata=read_metadata(info), **options) as writer:
        for block in blocks(source, 4800):
            writer.write(gain * block)
    return info, probe(target)


def packets(path, kind):
    with av.open(str(path)) as container:
        begin = container.start_time / 1e6
        (stream,) = (stream for stream in container.streams if stream.type == kind)
        return [
            (bytes(packet), float(packet.pts * packet.time_base) - begin, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size
        ]


def begin_seconds(path):
    sound, rate = read(path)
    return np.argmax(np.abs(sound[0]) > 0.1) / rate


@pytest.mark.parametrize(("source", "target"), [("a.mp4", "b.mp4"), ("a.mov", "b.mp4"), ("a.mp4", "b.mkv")])
def test_the_picture_is_copied_and_the_sound_is_replaced_in_its_place(tmp_path, source, target):
    path = film(tmp_path / source, [(0.678, tone(1.0))], codec="aac")
    before, after = replace_sound(path, tmp_path / target, gain=0.5)
    assert (after.sample_rate, after.channels, after.subtype) == (before.sample_rate, before.channels, "AAC")
    pictures, copies = packets(path, "video"), packets(tmp_path / target, "video")
    assert [(copy[0], copy[2]) for copy in copies] == [(picture[0], picture[2]) for picture in pictures]
    np.testing.assert_allclose([copy[1] for copy in copies], [picture[1] for picture in pictures], atol=0.001)
    assert begin_seconds(tmp_path / target) == pytest.approx(begin_seconds(path), abs=0.002)
    assert np.abs(read(tmp_path / target)[0]).max() == pytest.approx(0.5 * np.abs(read(path)[0]).max(), rel=0.2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [source, target]


@pytest.mark.parametrize("name", ["a.wav", "a.mp4"])
def test_m4a_is_sound_alone(tmp_path, name):
    is_film, path = name == "a.mp4", tmp_path / name
    path = film(path, [(0.0, tone(1.0))], codec="aac") if is_film else save(path, tone(1.0), 48000)
    _, after = replace_sound(path, tmp_path / "b.m4a")
    assert (after.subtype, after.sample_rate, after.channels) == ("AAC", 48000, 1)
    with av.open(str(tmp_path / "b.m4a")) as container:
        assert [stream.type for stream in container.streams] == ["audio"]
    sound = read(tmp_path / "b.m4a")[0]
    assert sound.shape[1] == pytest.approx(48000, abs=2100)
    assert np.corrcoef(sound[0, 4800:43200], tone(1.0)[0, 4800:43200])[0, 1] > 0.99


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "alac"), ("a.mov", "alac"), ("a.mov", "pcm_s24le"), ("a.mkv", "flac")]
)
def test_lossless_sound_stays_lossless(tmp_path, name, codec):
    film(tmp_path / name, [(0.0, tone(1.0))], codec=codec, picture_seconds=0)
    before, after = replace_sound(tmp_path / name, tmp_path / f"b{name[1:]}")
    assert before.subtype == after.subtype == codec.upper()
    np.testing.assert_array_equal(read(after.path)[0], read(before.path)[0])


def test_lossless_sound_is_limited_to_full_scale(tmp_path, caplog):
    film(tmp_path / "a.m4a", [(0.0, tone(1.0))], codec="alac", picture_seconds=0)
    _, after = replace_sound(tmp_path / "a.m4a", tmp_path / "b.m4a", gain=4)
    assert np.abs(read(after.path)[0]).max() <= 1
    assert "were beyond full scale and were limited to ±1" in caplog.text


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4b", "aac"), ("a.aac", "aac"), ("a.3gp", "aac"), ("a.weba", "libopus")]
)
def test_kinds_that_hold_sound_alone_are_written(tmp_path, name, codec):
    path = tmp_path / name
    suffix = ".webm" if codec == "libopus" else path.suffix  # FFmpeg knows no .weba
    film(path.with_suffix(suffix), [(0.0, tone(1.0))], codec=codec, picture_seconds=0).replace(path)
    before, after = replace_sound(path, tmp_path / f"b{name[1:]}")
    assert (after.subtype, after.sample_rate, after.channels) == (before.subtype, 48000, 1)
    assert after.seconds == pytest.approx(before.seconds, abs=0.1)


@pytest.mark.parametrize("kbps", [48, 128])
def test_bit_rate_is_about_that_of_the_recording(tmp_path, kbps):
    path, info = tmp_path / "a.m4a", probe(save(tmp_path / "a.wav", noise(96000), 48000))
    with open_writer(path, info, options=OutputOptions(bitrate=kbps)) as writer:
        writer.write(noise(96000))
    assert probe(path).bit_rate == pytest.approx(1000 * kbps, rel=0.1)
    _, after = replace_sound(path, tmp_path / "b.m4a")
    assert after.bit_rate == pytest.approx(1000 * kbps, rel=0.15)


def test_quality_sets_the_size(tmp_path):
    path = save(tmp_path / "a.wav", noise(48000), 48000)
    sizes = [
        replace_sound(path, tmp_path / f"{quality}.m4a", options=OutputOptions(quality=quality))[1].bit_rate
        for quality in (0.0, 0.5, 1.0)
    ]
    assert sizes == sorted(sizes)
    assert sizes[2] > 3 * sizes[0]


def test_other_sound_tracks_are_copied_and_said(tmp_path, caplog):
    tracks = [[(0.0, tone(1.0, frequency))] for frequency in (440, 880)]
    path = film(tmp_path / "a.mkv", *tracks, codec="aac", default=1, languages=("ger", "eng"))
    replace_sound(path, tmp_path / "b.mkv", gain=0.0)
    assert "a.mkv has 2 sound tracks: number 2 (eng) is enhanced" in caplog.text
    assert "b.mkv: copied as they are: sound track 2 (ger)" in caplog.text
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert [stream.metadata.get("language") for stream in container.streams.audio] == ["ger", "eng"]
        german = np.concatenate([frame.to_ndarray() for frame in container.decode(container.streams.audio[0])], axis=1)
    assert np.abs(np.fft.rfft(german[0, :48000])).argmax() == 440
    # The enhanced one is the default one again.
    assert not read(tmp_path / "b.mkv")[0].any()


def add_subtitles(path, target):
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        subtitles = output.add_mux_stream("subrip")
        subtitles.metadata["language"] = "eng"
        output.start_encoding()
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
        packet = av.Packet(b"Good morning.")
        packet.pts = packet.dts = 300
        packet.duration, packet.time_base, packet.stream = 700, Fraction(1, 1000), subtitles
        output.mux(packet)
    return target


def test_subtitles_are_kept_or_said(tmp_path, caplog):
    path = add_subtitles(film(tmp_path / "a.mkv", [(0.0, tone(1.0))], codec="aac"), tmp_path / "s.mkv")
    replace_sound(path, tmp_path / "b.mkv")
    assert [content for content, _, _ in packets(tmp_path / "b.mkv", "subtitle")] == [b"Good morning."]
    assert "left out" not in caplog.text
    replace_sound(path, tmp_path / "b.mp4")
    assert "b.mp4: left out, since this kind of file has no place for it: subtitles 3 (eng)" in caplog.text
    assert len(packets(tmp_path / "b.mp4", "video")) == 50


def test_tags_and_chapters_stay(tmp_path):
    path = film(tmp_path / "a.mp4", [(0.0, tone(1.0))], codec="aac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "t.mp4"), "w") as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        output.metadata["title"] = "An interview"
        output.set_chapters(
            [{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "Hello"}}]
        )
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)

    def tags(name, **options):
        replace_sound(tmp_path / "t.mp4", tmp_path / name, **options)
        with av.open(str(tmp_path / name)) as container:
            return container.metadata.get("title"), [chapter["metadata"]["title"] for chapter in container.chapters()]

    assert tags("b.mp4") == ("An interview", ["Hello"])
    assert tags("c.mp4", options=OutputOptions(metadata=False)) == (None, [])


def test_time_code_stays(tmp_path, caplog):
    """It is a tag of the picture and a track of its own, which the muxer makes from the tag."""
    path = film(tmp_path / "a.mp4", [(0.0, tone(0.5))], codec="aac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "t.mov"), "w") as output:
        copies = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        copies[0].metadata["timecode"] = "01:00:00:00"
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    replace_sound(tmp_path / "t.mov", tmp_path / "b.mov")
    with av.open(str(tmp_path / "b.mov")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "data"]
        assert container.streams[2].metadata["timecode"] == "01:00:00:00"
    assert "left out" not in caplog.text


def test_tags_of_other_kinds_of_files(tmp_path):
    path = save(tmp_path / "a.flac", tone(0.5), 48000)
    info = probe(path)
    import soundfile as sf

    with sf.SoundFile(path, "w", 48000, 1) as file:
        file.title = "An interview"
        file.write(tone(0.5)[0])
    with open_writer(tmp_path / "b.m4a", info, metadata=read_metadata(info)) as writer:
        writer.write(tone(0.5))
    with av.open(str(tmp_path / "b.m4a")) as container:
        assert container.metadata["title"] == "An interview"


@pytest.mark.parametrize(
    ("rate", "channels", "name", "words"),
    [
        (192_000, 1, "b.m4a", "found 192000 Hz and 1 channels, expected 8000, "),
        (48_000, 9, "b.mp4", "at most 8 channels for this kind of file; write .wav, .ogg, .opus, .aiff, .caf or .w64"),
        (44_100, 1, "b.webm", "expected 8000, 12000, 16000, 24000 or 48000 Hz"),
    ],
)
def test_what_the_codec_cannot_hold_is_refused(tmp_path, rate, channels, name, words):
    info = probe(save(tmp_path / "a.wav", noise(100, channels), rate))
    with pytest.raises(AudioError, match=words):
        open_writer(tmp_path / name, info)


def test_a_picture_that_has_no_place_is_refused(tmp_path):
    path = film(tmp_path / "a.mp4", [(0.0, tone(0.5))], codec="aac")
    with pytest.raises(AudioError, match=r"no place for the picture as it is coded\): write \.mkv or \.mp4"):
        replace_sound(path, tmp_path / "b.webm")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_nothing_stays_behind_after_an_exception(tmp_path):
    path = film(tmp_path / "a.mp4", [(0.0, tone(0.5))], codec="aac")
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "b.mp4", probe(path)) as writer:  # noqa: PT012
        writer.write(tone(0.5))
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_existing_files_are_kept(tmp_path):
    info = probe(save(tmp_path / "a.wav", tone(0.5), 48000))
    (tmp_path / "b.m4a").write_bytes(b"precious")
    with pytest.raises(AudioError, match="exists and is kept"):
        open_writer(tmp_path / "b.m4a", info)
    with pytest.raises(AudioError, match="exists and is kept"), open_writer(tmp_path / "c.m4a", info) as writer:  # noqa: PT012
        writer.write(tone(0.5))
        (tmp_path / "c.m4a").write_bytes(b"precious")
    assert (tmp_path / "b.m4a").read_bytes() == (tmp_path / "c.m4a").read_bytes() == b"precious"
    with open_writer(tmp_path / "b.m4a", info, overwrite=True) as writer:
        writer.write(tone(0.5))
    assert probe(tmp_path / "b.m4a").subtype == "AAC"


def test_no_samples(tmp_path):
    info = probe(save(tmp_path / "a.wav", tone(0.5), 48000))
    with pytest.raises(AudioError, match="found no samples"), open_writer(tmp_path / "b.m4a", info):
        pass


def test_loud_samples_are_limited(tmp_path, caplog):
    info = probe(save(tmp_path / "a.wav", tone(0.5), 48000))
    with open_writer(tmp_path / "b.m4a", info) as writer:
        writer.write(np.float32(7e8) * tone(0.5))
    assert "were beyond 20 dB above full scale and were limited to ±10" in caplog.text
    assert 5 < np.abs(read(tmp_path / "b.m4a")[0]).max() < 40


@pytest.mark.parametrize("channels", [2, 3, 4, 5, 6, 7, 8])
def test_every_channel_keeps_its_place(tmp_path, channels):
    info = probe(save(tmp_path / "a.wav", noise(100, channels), 48000))
    # Low tones, as the subwoofer's channel holds no others.
    sound = np.concatenate([tone(0.5, 40 + 10 * number) for number in range(channels)])
    with open_writer(tmp_path / "b.m4a", info, options=OutputOptions(quality=1)) as writer:
        writer.write(sound)
    back = read(tmp_path / "b.m4a")[0]
    for number in range(channels):
        assert np.corrcoef(back[number, :24000], sound[number])[0, 1] > 0.9


def test_the_picture_is_written_as_far_as_the_sound_has_come(tmp_path):
    """Nothing is collected until the end, so that the memory does not grow with the film."""
    path = film(tmp_path / "a.mkv", [(0.0, tone(1.0))], codec="aac", picture_seconds=40)
    sizes = []
    with open_writer(tmp_path / "b.mp4", probe(path), options=OutputOptions(bitrate=288)) as writer:
        (part,) = tmp_path.glob(".sottovoce-*")
        for _ in range(40):
            writer.write(noise(48000))
            sizes.append(part.stat().st_size)
    # FFmpeg writes pieces of 256 KiB.
    size = (tmp_path / "b.mp4").stat().st_size
    assert 0.4 * size - 2**18 < sizes[20] < 0.6 * size
    assert size > 2**20
