"""`sottovoce enhance - -o -` among real processes and pipes."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.engine.options import FOR_ASR_MIX
from sottovoce.signal.audio import read

from ..conftest import build_identity_model
from ..signal.audio.files import film
from ..signal.audio.files import tone as film_tone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")

RATE = 16000


@pytest.fixture
def command(identity_model):
    def build(*arguments):
        return [sys.executable, "-m", "sottovoce", "enhance", *map(str, arguments), "--model", str(identity_model)]

    return build


def tone(seconds=1.0):
    return (8000 * np.sin(2 * np.pi * 440 / RATE * np.arange(round(seconds * RATE)))).astype("<i2")


def run(command, content=b"", **options):
    return subprocess.run(command, check=False, input=content, capture_output=True, timeout=60, **options)


def test_wav_in_wav_out(tmp_path, command):
    sf.write(tmp_path / "a.wav", tone(), RATE)
    process = run(command("-", "-o", "-"), (tmp_path / "a.wav").read_bytes())
    assert process.returncode == 0
    assert process.stderr.startswith(b"sottovoce: enhanced 0:01.0 of sound in ")
    assert process.stderr.count(b"\n") == 1
    (tmp_path / "b.wav").write_bytes(process.stdout)
    back, rate = sf.read(tmp_path / "b.wav", dtype="int16")
    assert rate == RATE
    np.testing.assert_allclose(back, tone(), atol=1)


def test_raw_in_raw_out(command):
    process = run(command("-", "-o", "-", "--raw", "s16le", "--rate", RATE), tone().tobytes())
    assert process.returncode == 0
    np.testing.assert_allclose(np.frombuffer(process.stdout, "<i2"), tone(), atol=1)


def test_for_asr_adds_a_share_of_what_comes_in(tmp_path):
    silencer = build_identity_model(tmp_path / "model.onnx", gain=0.0)
    arguments = ["-", "-o", "-", "--raw", "s16le", "--rate", str(RATE), "--model", str(silencer), "--for-asr"]
    process = run([sys.executable, "-m", "sottovoce", "enhance", *arguments], tone().tobytes())
    assert process.returncode == 0
    np.testing.assert_allclose(np.frombuffer(process.stdout, "<i2"), (1 - FOR_ASR_MIX) * tone(), atol=1)


def test_raw_samples_pass_through_the_short_filter(command):
    """At 48 kHz no more waits than window, delay and 4 ms, where a WAV's filter alone takes over 70 ms."""
    process = subprocess.Popen(
        command("-", "-o", "-", "--raw", "s16le", "--rate", 48000), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        process.stdin.write(bytes(2 * 48000))
        process.stdin.flush()
        expected = 48000 - 3 * (512 + 2 * 128) - round(0.004 * 48000)
        assert len(receive(process, 2 * expected, 30)) == 2 * expected
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0


def test_one_side_alone(tmp_path, command):
    sf.write(tmp_path / "a.wav", tone(), RATE)
    process = run(command("-", "-o", tmp_path / "b.flac"), (tmp_path / "a.wav").read_bytes())
    assert (process.returncode, process.stdout) == (0, b"")
    np.testing.assert_allclose(sf.read(tmp_path / "b.flac", dtype="int16")[0], tone(), atol=1)
    process = run(command(tmp_path / "a.wav", "-o", "-", "--raw", "f32le"))
    assert process.returncode == 0
    np.testing.assert_allclose(np.frombuffer(process.stdout, "<f4") * 2**15, tone(), atol=1)


def receive(process, count, seconds):
    """Read from a process, without waiting for longer than `seconds`."""
    content, deadline = b"", time.monotonic() + seconds
    while len(content) < count and (left := deadline - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            content += os.read(process.stdout.fileno(), count - len(content))
    return content


def test_live_pipe_gives_back_what_came_but_for_the_latency(command):
    """Without the input's end, everything comes out but window and delay: 512 + 128 samples of the identity model."""
    process = subprocess.Popen(
        command("-", "-o", "-", "--raw", "s16le", "--rate", RATE), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    sound = tone(2.0)
    with process:
        received = b""
        for start in range(0, len(sound), 160):
            process.stdin.write(sound[start : start + 160].tobytes())
            process.stdin.flush()
            expected = max(0, (start + 160 - 512 - 128) // 128 * 128)
            received += receive(process, 2 * expected - len(received), 30)
            assert len(received) >= 2 * expected
        process.stdin.close()
        received += process.stdout.read()
    assert process.returncode == 0
    np.testing.assert_allclose(np.frombuffer(received, "<i2"), sound, atol=1)


def test_reader_that_goes_away(command):
    process = subprocess.Popen(
        command("-", "-o", "-", "--raw", "s16le", "--rate", RATE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdin.write(tone().tobytes())
        process.stdin.flush()
        assert receive(process, 1000, 30)
        process.stdout.close()
        process.stdin.write(tone().tobytes())
        process.stdin.close()
        (line,) = process.stderr.read().decode().splitlines()
    assert line.startswith("sottovoce: the program that reads standard output closed it after ")
    assert process.returncode == 1


def test_interruption(command):
    process = subprocess.Popen(
        command("-", "-o", "-", "--raw", "s16le", "--rate", RATE),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdin.write(tone().tobytes())
        process.stdin.flush()
        assert receive(process, 1000, 30)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b"sottovoce: interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ended before the end of a WAV's header (0 bytes came)"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "(16 bytes came)"),
        (b"ID3 and so on, an MP3", "expected a WAV"),
    ],
)
def test_bad_input_gets_one_sentence(command, content, words):
    process = run(command("-", "-o", "-"), content)
    assert (process.returncode, process.stdout) == (1, b"")
    (line,) = process.stderr.decode().splitlines()
    assert line.startswith("sottovoce: standard input ")
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "a.wav", "-o", "-"], "expected one"),
        (["a.wav", "b.wav", "-o", "-"], "expected one"),
        (["-", "-o", "-", "--raw", "s16le"], "without --rate"),
        (["-", "-o", "-", "--rate", "8000"], "--rate or --channels"),
        (["a.wav", "-o", "-", "--raw", "s16le", "--channels", "1"], "--rate or --channels"),
        (["a.wav", "-o", "b.wav", "--raw", "s16le"], "for a pipe"),
        (["-", "-o", "-", "--resume"], "--resume"),
        (["-", "-o", "-", "--safe"], "--safe"),
        (["-", "-o", "-", "--raw", "s16le", "--rate", "0"], "found rate 0 Hz"),
    ],
)
def test_contradictions_are_refused(command, arguments, words):
    process = run(command(*arguments))
    assert (process.returncode, process.stdout) == (1, b"")
    (line,) = process.stderr.decode().splitlines()
    assert words in line


@pytest.mark.parametrize(("side", "arguments"), [("<&-", ("-", "-o", "b.wav")), (">&-", ("a.wav", "-o", "-"))])
def test_closed_streams_are_reported(tmp_path, command, side, arguments):
    sf.write(tmp_path / "a.wav", tone(), RATE)
    process = run(["sh", "-c", f'"$@" {side}', "sh", *command(*arguments)], cwd=tmp_path)
    (line,) = process.stderr.decode().splitlines()
    assert process.returncode == 1
    assert "standard input is closed" in line or "standard output is closed" in line


def report_to(end, words, folder, unbuffered=""):
    """Run a command whose report goes to what a shell calls so; gives its exit code and standard error."""
    (folder / "code").unlink(missing_ok=True)
    script = f'{{ sleep 0.5; "$@"; echo $? >code; }} {end}'
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    process = run(["sh", "-c", script, "sh", *words], cwd=folder, env=environment)
    return int((folder / "code").read_text()), process.stderr.decode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_report_that_nobody_reads(tmp_path, command, unbuffered):
    """As behind `head`, which has seen enough."""
    sf.write(tmp_path / "a.wav", tone(), RATE)
    assert report_to("| true", command("a.wav", "-o", "b.flac"), tmp_path, unbuffered) == (141, "")
    assert sf.info(tmp_path / "b.flac").frames == RATE
    assert report_to("| true", [sys.executable, "-m", "sottovoce", "mix", "--help"], tmp_path, unbuffered) == (141, "")


def test_scores_are_written_though_nobody_reads_them(tmp_path):
    pytest.importorskip("scipy")
    sf.write(tmp_path / "a.wav", tone(), RATE)
    arguments = ("evaluate", "--estimate", "a.wav", "--measures", "speech_dbfs", "-o", "scores", "--jobs", "1")
    assert report_to("| true", [sys.executable, "-m", "sottovoce", *arguments], tmp_path) == (141, "")
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == ["scores.csv", "scores.md"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_report_that_cannot_be_written(tmp_path, command, unbuffered):
    sf.write(tmp_path / "a.wav", tone(), RATE)
    code, errors = report_to("> /dev/full", command("a.wav", "-o", "b.flac"), tmp_path, unbuffered)
    (line,) = errors.splitlines()
    assert code == 1
    assert line.startswith("sottovoce: standard output ")
    assert "cannot be written (No space left" in line
    assert sf.info(tmp_path / "b.flac").frames == RATE


@pytest.mark.parametrize("side", ["input", "output"])
def test_terminal_is_refused(tmp_path, command, side):
    sf.write(tmp_path / "a.wav", tone(), RATE)
    controller, terminal = os.openpty()
    try:
        arguments = ["-", "-o", tmp_path / "b.wav"] if side == "input" else [tmp_path / "a.wav", "-o", "-"]
        streams = {"stdin": terminal} if side == "input" else {"stdout": terminal}
        process = subprocess.run(
            command(*arguments), check=False, stderr=subprocess.PIPE, text=True, timeout=60, **streams
        )
    finally:
        os.close(controller)
        os.close(terminal)
    assert process.returncode == 1
    assert process.stderr.startswith(f"sottovoce: standard {side} is a terminal")
    assert process.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_between_two_of_ffmpeg(tmp_path, command):
    sf.write(tmp_path / "a.flac", tone(3.0), RATE)
    ffmpeg = ["ffmpeg", "-v", "error", "-nostdin"]
    first = subprocess.Popen([*ffmpeg, "-i", tmp_path / "a.flac", "-f", "wav", "-"], stdout=subprocess.PIPE)
    second = subprocess.Popen(command("-", "-o", "-"), stdin=first.stdout, stdout=subprocess.PIPE)
    third = subprocess.run(
        [*ffmpeg, "-i", "-", tmp_path / "b.flac"], check=False, stdin=second.stdout, capture_output=True, timeout=60
    )
    first.stdout.close()
    second.stdout.close()
    assert (first.wait(), second.wait(), third.returncode, third.stderr) == (0, 0, 0, b"")
    np.testing.assert_allclose(sf.read(tmp_path / "b.flac", dtype="int16")[0], tone(3.0), atol=1)


def pipes_with_a_film():
    """The lines of the documentation that begin with ffmpeg and a film."""
    page = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    lines = page.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("ffmpeg -i talk.mp4")]


def test_the_documentation_has_pipes_with_a_film():
    assert [line.split()[-1] for line in pipes_with_a_film()] == ["clear.mp4", "talk.flac"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("line", pipes_with_a_film())
def test_pipes_of_the_documentation_keep_sound_and_picture_together(tmp_path, identity_model, line):
    """The film's sound begins at 0.678 s and has a hole from 1.2 to 1.8 s."""
    pytest.importorskip("av")
    sound = np.tile(film_tone(0.1), 5)
    film(tmp_path / "talk.mp4", [(0.678, sound), (1.8, sound)], codec="aac", picture_seconds=3)
    command = tmp_path / "bin" / "sottovoce"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sottovoce "$@" --model "{identity_model}"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    process = run(["sh", "-c", line], cwd=tmp_path, env=environment)
    assert process.returncode == 0, process.stderr.decode()

    def envelope(path):
        """Whether there is sound in every hundredth of a second."""
        waveform, rate = read(path)
        hop = rate // 100
        return np.abs(waveform[0, : 230 * hop]).reshape(-1, hop).max(axis=1) > 0.1

    there, expected = envelope(tmp_path / line.split()[-1]), envelope(tmp_path / "talk.mp4")
    assert not expected[:60].any()
    assert expected[72:115].all()
    assert not expected[125:175].any()
    # A frame of AAC more or less at every end.
    assert np.count_nonzero(there != expected) <= 12
