"""Files and folders: everything of a recording stays, but its noise; one bad file stops no other."""

import functools
import os
import shutil
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.engine import enhancer, files
from sottovoce.engine.confidence import FADED, TRUSTED
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.files import FileResult
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import AudioError, ConfigError
from sottovoce.signal.audio import probe, pyav, read

from ..signal.audio.files import film, tone
from ..systems import speech

# What worker processes add is in test_workers.py.
enhance_files = functools.partial(files.enhance_files, isolate=False)


def save(path, samples, rate=16000, channels=1, peak=0.5, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = peak * np.sin(2 * np.pi * 440 / rate * np.arange(samples))
    sf.write(path, np.tile(tone[:, np.newaxis], (1, channels)), rate, **options)
    return path


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("a.wav", (8000, 1, {"subtype": "PCM_16"})),
        ("a.wav", (11025, 1, {"subtype": "PCM_24"})),
        ("a.wav", (44100, 2, {"subtype": "FLOAT"})),
        ("a.wav", (16000, 8, {"subtype": "PCM_16"})),
        ("a.wav", (96000, 1, {"subtype": "DOUBLE"})),
        ("a.flac", (48000, 2, {"subtype": "PCM_24"})),
        ("a.ogg", (44100, 1, {})),
        ("a.opus", (48000, 1, {"format": "OGG", "subtype": "OPUS"})),
        ("a.mp3", (44100, 2, {})),
        ("a.aiff", (22050, 1, {"subtype": "PCM_16"})),
    ],
)
def test_everything_but_the_noise_stays(tmp_path, identity, name, sound):
    rate, channels, options = sound
    samples = 5 * rate + 137
    source = save(tmp_path / "in" / name, samples, rate, channels, **options)
    (result,) = enhance_files([source], tmp_path / "out", identity)
    assert result == FileResult(source, tmp_path / "out" / name, samples / rate)
    before, after = probe(source), probe(result.target)
    assert (after.format, after.subtype, after.sample_rate) == (before.format, before.subtype, before.sample_rate)
    assert (after.channels, after.frames) == (before.channels, before.frames)
    if name.endswith((".wav", ".flac", ".aiff")):
        # The model's rate cannot hold the tone's abrupt ends.
        inner = slice(rate // 10, -rate // 10)
        np.testing.assert_allclose(read(result.target)[0][:, inner], read(source)[0][:, inner], atol=2e-3)


@pytest.mark.parametrize("samples", [1, 2, 127, 512, 4 * 16000, 4 * 16000 + 1])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_length_is_kept_to_the_sample(tmp_path, identity, samples, rate):
    source = save(tmp_path / "a.wav", samples, rate)
    (result,) = enhance_files([source], tmp_path / "b.wav", identity)
    assert result.error is None
    assert probe(tmp_path / "b.wav").frames == samples


def test_silence_stays_silent(tmp_path, identity):
    enhance_files([save(tmp_path / "a.wav", 30000, peak=0)], tmp_path / "b.wav", identity)
    assert not read(tmp_path / "b.wav")[0].any()


def test_full_scale_stays_within_full_scale(tmp_path, identity, caplog):
    # A square wave is larger once its high partials are gone; the stream does not let it be.
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(44100) / 44100))
    sf.write(tmp_path / "a.wav", square, 44100)
    (result,) = enhance_files([tmp_path / "a.wav"], tmp_path / "b.wav", identity, EnhanceOptions(full_band=False))
    assert result.error is None
    assert "beyond full scale" not in caplog.text
    assert np.abs(read(tmp_path / "b.wav")[0]).max() > 0.99


def test_full_band_and_linked_reach_the_stream(tmp_path, identity):
    tone = 0.5 * np.sin(2 * np.pi * 12000 * np.arange(44100) / 44100)
    sf.write(tmp_path / "a.wav", np.stack([tone, tone], axis=1), 44100, subtype="FLOAT")
    enhance_files([tmp_path / "a.wav"], tmp_path / "b.wav", identity, EnhanceOptions(linked=True))
    np.testing.assert_allclose(read(tmp_path / "b.wav")[0], read(tmp_path / "a.wav")[0], atol=1e-6)
    enhance_files([tmp_path / "a.wav"], tmp_path / "b.wav", identity, EnhanceOptions(full_band=False), overwrite=True)
    assert np.abs(read(tmp_path / "b.wav")[0][:, 4410:-4410]).max() < 1e-3


def test_mix_and_limit_reach_the_stream(tmp_path, identity):
    source = save(tmp_path / "a.wav", 20000, 44100, subtype="FLOAT")
    enhance_files([source], tmp_path / "b.wav", identity, EnhanceOptions(mix=0.0, limit_db=6.0))
    np.testing.assert_array_equal(read(tmp_path / "b.wav")[0], read(source)[0])


@pytest.mark.parametrize("name", ["clear.mp4", "clear.mkv", "clear.m4a"])
def test_a_film_keeps_its_picture_and_its_time(tmp_path, identity, name):
    path = film(tmp_path / "talk.mp4", [(0.678, tone(1.0))], codec="aac")
    (result,) = enhance_files([path], tmp_path / name, identity)
    assert result.error is None
    before, after = (np.abs(read(p)[0][0]) > 0.1 for p in (path, tmp_path / name))
    assert before.argmax() / 48000 == pytest.approx(0.678, abs=0.025)
    assert after.argmax() == pytest.approx(before.argmax(), abs=50)
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / name)) as container:
        kinds = sorted(stream.type for stream in container.streams)
        assert kinds == (["audio"] if name == "clear.m4a" else ["audio", "video"])


def test_folders_are_made_again(tmp_path, identity):
    for name in ["a.wav", "b/c.flac", "b/d/e.wav"]:
        save(tmp_path / "in" / name, 1000)
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    results = enhance_files([tmp_path / "in"], tmp_path / "out", identity, jobs=2)
    assert [result.target for result in results] == [tmp_path / "out" / n for n in ["a.wav", "b/c.flac", "b/d/e.wav"]]
    assert all(result.target.exists() for result in results)


def test_input_within_the_output_is_input(tmp_path, identity, monkeypatch):
    save(tmp_path / "noisy" / "a.wav", 1000)
    monkeypatch.chdir(tmp_path)
    (result,) = enhance_files([Path("noisy")], Path(), identity)
    assert (result.target, result.error) == (Path("a.wav"), None)


def test_nothing_but_earlier_output_is_reported(tmp_path, identity):
    save(tmp_path / "in" / "out" / "a.wav", 1000)
    with pytest.raises(AudioError, match=r"no recording in .*in but what lies in the output folder"):
        enhance_files([tmp_path / "in"], tmp_path / "in" / "out", identity)


def test_output_within_the_input_is_no_input(tmp_path, identity):
    save(tmp_path / "in" / "a.wav", 1000)
    for _ in range(2):
        results = enhance_files([tmp_path / "in"], tmp_path / "in" / "out", identity, overwrite=True)
        assert [result.source for result in results] == [tmp_path / "in" / "a.wav"]


def test_one_bad_file_stops_no_other(tmp_path, identity):
    good = [save(tmp_path / "in" / f"{name}.wav", 20000) for name in "ac"]
    bad = tmp_path / "in" / "b.wav"
    bad.write_text("no sound")
    cut = save(tmp_path / "in" / "d.flac", 20000)
    cut.write_bytes(cut.read_bytes()[:-100])
    header = tmp_path / "in" / "e.wav"
    header.write_bytes(b"RF64\xff\xff\xff\xffWAVEds64\x1c\x00\x00\x00" + bytes(3))
    seen = []
    results = enhance_files(
        [tmp_path / "in"], tmp_path / "out", identity, jobs=3, on_progress=lambda _, *seconds: seen.append(seconds)
    )
    assert [result.source for result in results] == [good[0], bad, good[1], cut, header]
    assert [result.error is None for result in results] == [True, False, True, False, False]
    assert "not a sound file" in results[1].error
    assert "cut short or damaged" in results[3].error
    assert "not a sound file" in results[4].error
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "c.wav"]
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx((3 * 20000 / 16000, 3 * 20000 / 16000))


def test_progress_knows_a_streamed_flac(tmp_path, identity):
    save(tmp_path / "in" / "a.wav", 16000)
    flac = save(tmp_path / "in" / "b.flac", 20000)
    content = bytearray(flac.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # 36 bits for the number of samples
    flac.write_bytes(content)
    seen = []
    results = enhance_files(
        [tmp_path / "in"], tmp_path / "out", identity, on_progress=lambda _, *seconds: seen.append(seconds)
    )
    assert [(result.error, result.seconds) for result in results] == [(None, 1.0), (None, 1.25)]
    assert seen[-1] == pytest.approx((2.25, 2.25))
    assert probe(results[1].target).frames == 20000


def test_existing_files_are_kept(tmp_path, identity):
    source = save(tmp_path / "a.wav", 1000)
    (tmp_path / "b.wav").write_bytes(b"precious")
    (result,) = enhance_files([source], tmp_path / "b.wav", identity)
    assert "exists and is kept" in result.error
    assert (tmp_path / "b.wav").read_bytes() == b"precious"
    (result,) = enhance_files([source], tmp_path / "b.wav", identity, overwrite=True)
    assert result.error is None
    assert probe(tmp_path / "b.wav").frames == 1000


def test_kind_that_cannot_hold_the_rate(tmp_path, identity):
    source = save(tmp_path / "a.wav", 1000, 44100)
    (result,) = enhance_files([source], tmp_path / "b.opus", identity)
    assert "expected 8000, 12000, 16000, 24000 or 48000 Hz" in result.error


class TestResume:
    @pytest.fixture
    def names(self, tmp_path, identity):
        """Three recordings, of which an earlier run did the first two."""
        paths = [save(tmp_path / "in" / name, 20000) for name in ("a.wav", "b/c.flac")]
        enhance_files([tmp_path / "in"], tmp_path / "out", identity)
        save(tmp_path / "in" / "d.wav", 20000)
        return [path.relative_to(tmp_path / "in") for path in paths]

    def run(self, tmp_path, identity, **options):
        return enhance_files([tmp_path / "in"], tmp_path / "out", identity, resume=True, **options)

    def test_what_is_finished_is_kept_and_the_rest_is_done(self, tmp_path, identity, names):
        before = [(tmp_path / "out" / name).stat() for name in names]
        seen = []
        results = self.run(tmp_path, identity, on_progress=lambda _, *seconds: seen.append(seconds))
        assert [(result.kept, result.error) for result in results] == [(True, None), (True, None), (False, None)]
        after = [(tmp_path / "out" / name).stat() for name in names]
        assert [(s.st_ino, s.st_mtime_ns) for s in before] == [(s.st_ino, s.st_mtime_ns) for s in after]
        assert probe(tmp_path / "out" / "d.wav").frames == 20000
        # Progress, and with it the time left, is that of the work to do.
        assert seen[-1] == pytest.approx((1.25, 1.25))
        assert all(result.kept for result in self.run(tmp_path, identity))

    def test_a_newer_recording_is_done_again(self, tmp_path, identity, names):
        save(tmp_path / "in" / names[0], 30000)
        newer = (tmp_path / "out" / names[0]).stat().st_mtime_ns + 1
        os.utime(tmp_path / "in" / names[0], ns=(newer, newer))
        assert [result.kept for result in self.run(tmp_path, identity)] == [False, True, False]
        assert probe(tmp_path / "out" / names[0]).frames == 30000

    @pytest.mark.parametrize("content", [b"", b"no sound"])
    def test_what_is_no_recording_is_not_taken_for_a_finished_one(self, tmp_path, identity, names, content):
        (tmp_path / "out" / names[1]).write_bytes(content)
        assert [result.kept for result in self.run(tmp_path, identity)] == [True, False, False]
        assert probe(tmp_path / "out" / names[1]).frames == 20000

    def test_goes_on_after_an_interruption(self, tmp_path, identity, names):
        def interrupt(task, done_seconds, total_seconds):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, identity, on_progress=interrupt)
        assert [result.kept for result in self.run(tmp_path, identity)] == [True, True, False]

    def test_overwrite_contradicts(self, tmp_path, identity, names):
        with pytest.raises(ConfigError, match="both resume and overwrite"):
            self.run(tmp_path, identity, overwrite=True)


class TestFolderThatChanges:
    """While the first of two recordings is enhanced, something happens to the folder."""

    @pytest.fixture
    def meanwhile(self, tmp_path, identity):
        for name in "ab":
            save(tmp_path / "in" / f"{name}.wav", 3 * 16000)

        def run(happens):
            calls = []

            def at_first_block(task, done_seconds, total_seconds):
                if not calls:
                    happens()
                calls.append(done_seconds)

            results = enhance_files([tmp_path / "in"], tmp_path / "out", identity, on_progress=at_first_block)
            assert [result.source.name for result in results] == ["a.wav", "b.wav"]
            return [result.error for result in results]

        return run

    def test_a_file_goes(self, tmp_path, meanwhile):
        first, second = meanwhile((tmp_path / "in" / "b.wav").unlink)
        assert first is None
        assert (
            second
            == f"{tmp_path / 'in' / 'b.wav'} was there when this run began and is gone now: it was moved or deleted"
        )
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.wav"]

    @pytest.mark.skipif(os.name == "nt", reason="Windows keeps an open file where it is")
    def test_the_one_that_is_read_goes(self, tmp_path, meanwhile):
        assert meanwhile((tmp_path / "in" / "a.wav").unlink) == [None, None]
        assert probe(tmp_path / "out" / "a.wav").frames == 3 * 16000

    @pytest.mark.parametrize(("name", "rate"), [("a.wav", 16000), ("b.wav", 16000), ("b.wav", 8000)])
    def test_a_file_is_written_to(self, tmp_path, meanwhile, name, rate):
        errors = meanwhile(lambda: save(tmp_path / "in" / name, 40000, rate, channels=2))
        (error,) = filter(None, errors)
        assert f"{name} changed since this run began" in error or "cut short or damaged" in error
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.wav" if name == "a.wav" else "a.wav"]

    def test_a_file_comes(self, tmp_path, meanwhile, caplog):
        assert meanwhile(lambda: save(tmp_path / "in" / "c" / "d.wav", 1000)) == [None, None]
        assert "1 recording(s) came in meanwhile" in caplog.text
        assert str(tmp_path / "in" / "c" / "d.wav") in caplog.text
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]

    def test_nothing_comes(self, meanwhile, caplog):
        assert meanwhile(lambda: None) == [None, None]
        assert not caplog.text


class TestRefusals:
    def test_nothing(self, tmp_path, identity):
        with pytest.raises(AudioError, match="found no input"):
            enhance_files([], tmp_path / "out", identity)

    def test_empty_folder(self, tmp_path, identity):
        (tmp_path / "in").mkdir()
        with pytest.raises(AudioError, match="found no recording"):
            enhance_files([tmp_path / "in"], tmp_path / "out", identity)

    @pytest.mark.parametrize("output", [".", "a.wav", "link.wav"])
    def test_output_is_input(self, tmp_path, identity, output):
        source = save(tmp_path / "a.wav", 1000)
        content = source.read_bytes()
        (tmp_path / "link.wav").symlink_to(source)
        with pytest.raises(AudioError, match="is an input as well"):
            enhance_files([source], tmp_path / output, identity, overwrite=True)
        assert source.read_bytes() == content

    def test_two_inputs_with_one_output(self, tmp_path, identity):
        sources = [save(tmp_path / name / "a.wav", 1000) for name in "bc"]
        with pytest.raises(AudioError, match="would both be written to"):
            enhance_files(sources, tmp_path / "out", identity)

    def test_the_same_input_twice_is_one(self, tmp_path, identity):
        source = save(tmp_path / "in" / "a.wav", 1000)
        assert len(enhance_files([source, tmp_path / "in", source], tmp_path / "out", identity)) == 1

    def test_output_folder_cannot_be_made(self, tmp_path, identity):
        save(tmp_path / "in" / "a.wav", 1000)
        (tmp_path / "file").touch()
        for output in ["file", "file/out"]:
            with pytest.raises(AudioError, match="cannot make the output folder"):
                enhance_files([tmp_path / "in"], tmp_path / output, identity)

    def test_no_job(self, tmp_path, identity):
        with pytest.raises(ConfigError, match="expected 1 at least"):
            enhance_files([tmp_path / "a.wav"], tmp_path / "b.wav", identity, jobs=0)


@pytest.fixture
def slow(monkeypatch):
    """Streams that give blocks back after a while, and know how many are under way."""

    class SlowStream:
        seconds = 0.05
        lock = threading.Lock()
        now = most = 0

        def __init__(self, enhancer, sample_rate, channels, options):
            self.channels = channels

        def reset(self, beginning):
            assert sum(block.shape[1] for block in beginning) > 0

        def push(self, block):
            with SlowStream.lock:
                SlowStream.now += 1
                SlowStream.most = max(SlowStream.most, SlowStream.now)
            time.sleep(SlowStream.seconds)
            with SlowStream.lock:
                SlowStream.now -= 1
            return block

        def flush(self):
            return np.zeros((self.channels, 0), np.float32)

    monkeypatch.setattr(files, "Stream", SlowStream)
    return SlowStream


def test_jobs_run_at_once(tmp_path, identity, slow):
    slow.seconds = 0.5
    for name in "abc":
        save(tmp_path / "in" / f"{name}.wav", 1000)
    enhance_files([tmp_path / "in"], tmp_path / "out", identity, jobs=3)
    assert slow.most == 3


def test_interruption_leaves_nothing_half_written(tmp_path, identity, slow):
    slow.seconds = 0.01
    for name in "abcd":
        save(tmp_path / "in" / f"{name}.wav", 16000 * 20)

    def interrupt(task, done_seconds, total_seconds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enhance_files([tmp_path / "in"], tmp_path / "out", identity, jobs=2, on_progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_does_not_depend_on_length(tmp_path, identity):
    def peak(seconds):
        source = save(tmp_path / "a.wav", seconds * 16000)
        tracemalloc.start()
        enhance_files([source], tmp_path / "b.wav", identity, overwrite=True)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)
    assert peak(60) < 1.1 * peak(12)


def test_a_folder_keeps_kinds_as_a_single_file_does(tmp_path, identity, m4a):
    save(tmp_path / "in" / "a.wav", 1000)
    save(tmp_path / "in" / "c.wav", 1000)
    for name in ("b.m4a", "b.m4b", "c.m4a", "c.mp4", "d.mov"):
        shutil.copy(m4a, tmp_path / "in" / name)
    results = enhance_files([tmp_path / "in"], tmp_path / "out", identity)
    assert [result.error for result in results] == [None] * 7
    assert [result.target.name for result in results] == [result.source.name for result in results]
    (single,) = enhance_files([m4a], tmp_path / "single.m4a", identity)
    assert (tmp_path / "out" / "b.m4a").read_bytes() == single.target.read_bytes()
    assert {probe(tmp_path / "out" / name).subtype for name in ("b.m4a", "b.m4b", "c.mp4", "d.mov")} == {"AAC"}
    results = enhance_files([tmp_path / "in"], tmp_path / "out", identity, resume=True)
    assert all(result.kept for result in results)


@pytest.mark.parametrize("as_folder", [True, False])
def test_twins_get_names_of_their_own(tmp_path, identity, wma, as_folder):
    save(tmp_path / "in" / "other.wav", 1000)
    for name in ("talk.wma", "talk.wmv", "below/talk.wmv"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        shutil.copy(wma, tmp_path / "in" / name)
    inputs = [tmp_path / "in"] if as_folder else [tmp_path / "in" / name for name in ("talk.wma", "talk.wmv")]
    results = enhance_files(inputs, tmp_path / "out", identity)
    assert [result.error for result in results] == [None] * len(results)
    names = ["below/talk.wav", "other.wav"] * as_folder + ["talk.wma.wav", "talk.wmv.wav"]
    assert [result.target.relative_to(tmp_path / "out").as_posix() for result in results] == names
    assert all(probe(result.target).frames for result in results)
    results = enhance_files(inputs, tmp_path / "out", identity, resume=True)
    assert all(result.kept for result in results)


@pytest.mark.parametrize(("name", "kind"), [("a.caf", "CAF"), ("a.w64", "W64"), ("a.aifc", "AIFF"), ("A.W64", "W64")])
def test_less_usual_kinds_are_found(tmp_path, identity, name, kind):
    save(tmp_path / "in" / name, 1000, format=kind)
    (result,) = enhance_files([tmp_path / "in"], tmp_path / "out", identity)
    assert (result.error, result.target) == (None, tmp_path / "out" / name)
    assert (probe(result.target).format, probe(result.target).frames) == (kind, 1000)


def test_what_is_passed_over_is_reported(tmp_path, identity, caplog):
    save(tmp_path / "in" / "a.wav", 1000)
    for name in ("notes.txt", "below/cover.jpg", ".hidden", "out/earlier.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    (result,) = enhance_files([tmp_path / "in"], tmp_path / "in" / "out", identity)
    assert result.error is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'in'}: passed over 2 files that are no sound by their names"
    ]


def test_folder_tells_what_is_not_installed(tmp_path, identity, monkeypatch):
    monkeypatch.setattr(pyav, "find_spec", lambda name: None)
    save(tmp_path / "in" / "a.wav", 1000)
    (tmp_path / "in" / "b.m4a").write_bytes(bytes(100))
    first, second = enhance_files([tmp_path / "in"], tmp_path / "out", identity)
    assert first.error is None
    assert "pip install 'sottovoce[av]'" in second.error


def test_what_cannot_be_written_becomes_wav_and_is_said(tmp_path, identity, wma, caplog):
    save(tmp_path / "in" / "a.au", 1000, format="AU")
    shutil.copy(wma, tmp_path / "in" / "B.WMA")
    first, second = enhance_files([tmp_path / "in"], tmp_path / "out", identity)
    assert (first.error, second.error) == (None, None)
    assert [result.target.name for result in (first, second)] == ["B.wav", "a.wav"]
    info = probe(first.target)
    assert (info.format, info.subtype, info.frames) == ("WAV", "PCM_16", read(wma)[0].shape[1])
    assert probe(second.target).frames == 1000
    assert [record.getMessage() for record in caplog.records] == [
        "these kinds of files are not written, and their sound becomes .wav: .au, .wma"
    ]


def test_a_network_that_fails_on_one_recording_fails_there_alone(tmp_path, exploding):
    save(tmp_path / "in" / "loud.wav", 16000)
    save(tmp_path / "in" / "silent.wav", 16000, peak=0.0)
    loud, silent = enhance_files([tmp_path / "in"], tmp_path / "out", exploding)
    assert loud.error.startswith(f"{loud.source}: the network of ")
    assert "no numbers" in loud.error
    assert silent.error is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["silent.wav"]


def test_one_file_is_enhanced_as_in_a_run_and_its_errors_are_raised(tmp_path, identity):
    source = save(tmp_path / "a.wav", 40_000)
    (result,) = enhance_files([source], tmp_path / "run.wav", identity)
    advanced = []
    seconds = files.enhance_file(identity, probe(source), tmp_path / "new" / "one.wav", advance=advanced.append)
    assert seconds == sum(advanced) == result.seconds == 2.5
    assert (tmp_path / "new" / "one.wav").read_bytes() == (tmp_path / "run.wav").read_bytes()
    with pytest.raises(AudioError, match="exists and is kept"):
        files.enhance_file(identity, probe(source), tmp_path / "run.wav", advance=advanced.append)


def test_what_is_raised_between_blocks_leaves_no_file(tmp_path, identity):
    def stop(seconds):
        raise ConfigError("enough")

    with pytest.raises(ConfigError, match="enough"):
        files.enhance_file(identity, probe(save(tmp_path / "a.wav", 40_000)), tmp_path / "b.wav", advance=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_file_is_enhanced_as_its_samples_are(tmp_path, monkeypatch):
    """With the same warm-up, whatever the blocks in which it is read."""
    monkeypatch.setattr(enhancer, "WARM_UP_SECONDS", 1.0)
    monkeypatch.setattr(files, "WARM_UP_SECONDS", 1.0)
    monkeypatch.setattr(files, "block_frames", lambda *_: 3000)
    live = enhancer.Enhancer.from_pretrained("live")
    sound = (0.1 * np.random.default_rng(1).standard_normal(2 * 16000)).astype(np.float32)
    sf.write(tmp_path / "a.wav", sound, 16000, subtype="FLOAT")
    (result,) = enhance_files([tmp_path / "a.wav"], tmp_path / "b.wav", live)
    np.testing.assert_allclose(read(result.target)[0], live.enhance(sound[np.newaxis], 16000), atol=1e-5)


def test_safe_leaves_alone_what_the_model_does_not_know(tmp_path):
    """A tone is no speech; a voice in noise is enhanced as it is without the option."""
    default, advanced = Enhancer.from_pretrained("default"), []
    sources = [save(tmp_path / "in" / "tone.wav", 48000), tmp_path / "in" / "voice.wav"]
    sf.write(sources[1], speech(3.0), 16000)
    results = enhance_files(
        sources, tmp_path / "safe", default, safe=True, on_progress=lambda *step: advanced.append(step)
    )
    assert [result.error for result in results] == [None, None]
    assert results[0].confidence < TRUSTED["default"] - FADED
    assert results[1].confidence > TRUSTED["default"]
    np.testing.assert_array_equal(read(results[0].target)[0], read(sources[0])[0])
    enhance_files(sources[1:], tmp_path / "plain.wav", default)
    np.testing.assert_array_equal(read(results[1].target)[0], read(tmp_path / "plain.wav")[0])
    assert advanced[-1][1] == pytest.approx(advanced[-1][2])


def test_safe_removes_nothing_of_what_the_model_does_not_know(tmp_path):
    default = Enhancer.from_pretrained("default")
    source = save(tmp_path / "tone.wav", 48000)
    enhance_files([source], tmp_path / "removed.wav", default, EnhanceOptions(removed=True), safe=True)
    assert not read(tmp_path / "removed.wav")[0].any()


def test_safe_needs_a_model_whose_confidence_is_known(tmp_path, identity):
    with pytest.raises(ConfigError, match="no confidence is known"):
        enhance_files([save(tmp_path / "a.wav", 100)], tmp_path / "b.wav", identity, safe=True)
    assert not (tmp_path / "b.wav").exists()
