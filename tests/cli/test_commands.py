"""The table of commands, and what is no command."""

import contextlib
import hashlib
import importlib.metadata
import inspect
import os
import platform
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

import sottovoce
from sottovoce import cli
from sottovoce.weights import MODELS

from .test_extras import Absent


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_summary_is_the_first_line_of_the_help(name):
    command = cli.COMMANDS[name]
    assert inspect.getdoc(command.load(name)).splitlines()[0] == command.summary


def test_the_list_of_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sottovoce"])
    assert cli.main() == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}" in printed and command.summary in printed for name, command in cli.COMMANDS.items())


def test_an_unknown_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sottovoce", "enhanse"])
    assert cli.main() == 2
    assert capsys.readouterr().err.startswith("sottovoce: found the command 'enhanse', expected one of enhance, live,")


def test_the_package_is_the_command():
    process = subprocess.run([sys.executable, "-m", "sottovoce"], check=True, capture_output=True, text=True)
    assert process.stdout.startswith("sottovoce: speech enhancement")


def test_a_command_of_a_package_that_is_not_installed(monkeypatch, capsys):
    for module in ("sspd2023", "sspd2023.command"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(["sspd2023"]), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["sottovoce", "benchmark", "--quick", "-o", "results"])
    assert cli.main() == 1
    printed = capsys.readouterr()
    assert printed.err == (
        "sottovoce: `sottovoce benchmark` needs the package 'sspd2023', which is not installed: run `pip install "
        "./experiments/sspd2023` in a copy of the repository\n"
    )
    assert printed.out == ""


@pytest.fixture
def damaged_mp3(tmp_path):
    """An MP3 about which its decoder writes to standard error."""
    path = tmp_path / "a.mp3"
    noise = 0.1 * np.random.default_rng(0).standard_normal(80_000)
    sf.write(path, noise, 16000, bitrate_mode="CONSTANT", compression_level=0.5)
    content = bytearray(path.read_bytes())
    content[6000::1500] = [byte ^ 0xFF for byte in content[6000::1500]]
    path.write_bytes(content)
    return path


def test_decoders_do_not_write_to_the_terminal(tmp_path, damaged_mp3, identity_model):
    code = "from sottovoce.signal.audio import read; import sys; read(sys.argv[1])"
    bare = subprocess.run([sys.executable, "-c", code, damaged_mp3], capture_output=True, text=True, check=False)
    assert "Audio-MPEG-Header" in bare.stderr, "this MP3 does not make its decoder write"
    words = ["enhance", damaged_mp3, "-o", tmp_path / "b.wav", "--model", identity_model]
    process = subprocess.run([sys.executable, "-m", "sottovoce", *words], capture_output=True, text=True, check=False)
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"sottovoce: {damaged_mp3} is cut short or damaged")


def test_matplotlib_does_not_write_to_the_terminal(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    words = ["plot", tmp_path / "a.wav", "-o", tmp_path / "a.png"]
    # No folder to keep its font cache in, of which it would warn.
    environment = os.environ | {"MPLCONFIGDIR": os.devnull}
    process = subprocess.run(
        [sys.executable, "-m", "sottovoce", *words], capture_output=True, text=True, check=True, env=environment
    )
    assert process.stderr == ""
    assert (tmp_path / "a.png").exists()


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["sottovoce", *map(str, arguments)])
    return cli.main(), *capsys.readouterr()


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS), ("enhance", "a.wav", "-o", "b.wav")])
def test_versions(monkeypatch, capsys, command):
    code, out, err = run(monkeypatch, capsys, *command, "--version")
    assert (code, err) == (0, "")
    first, *models, onnxruntime, python = out.splitlines()
    assert first == f"sottovoce {sottovoce.__version__}"
    for name, line in zip(MODELS, models, strict=True):
        digest = hashlib.sha256(MODELS[name].read_bytes()).hexdigest()
        assert line == f"model {name}, SHA-256 {digest[:16]}"
    assert onnxruntime == f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    assert python == f"Python {platform.python_version()}"


@pytest.fixture
def recording(tmp_path):
    sf.write(tmp_path / "a.wav", np.full(1600, 0.1), 16000)
    return tmp_path / "a.wav"


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet(monkeypatch, capsys, recording, identity_model, flag):
    command = ("enhance", recording, "-o", recording.with_name("b.wav"), "--model", identity_model)
    assert run(monkeypatch, capsys, *command, flag) == (0, "", "")
    assert recording.with_name("b.wav").exists()
    code, out, err = run(monkeypatch, capsys, flag, *command)
    assert (code, out) == (1, "")
    assert "exists and is kept" in err
    assert "rate  " in run(monkeypatch, capsys, "info", recording, flag)[1]


def test_one_recording_that_fails_gets_one_sentence(monkeypatch, capsys, tmp_path, identity_model):
    command = ("enhance", tmp_path / "none.wav", "-o", tmp_path / "b.wav", "--model", identity_model)
    code, out, err = run(monkeypatch, capsys, *command)
    assert (code, out) == (1, "")
    assert err == f"sottovoce: found nothing at {tmp_path / 'none.wav'}, expected a sound file: check the name\n"


@pytest.mark.parametrize("command", ["enhance", "live"])
def test_help_offers_no_value_that_a_flag_does_not_take(monkeypatch, capsys, command):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, command, "--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--limit-db" in text
    assert "None for" not in text


@pytest.mark.parametrize("seconds", ["-1", "nan"])
def test_live_refuses_a_time_that_is_none(monkeypatch, capsys, seconds):
    code, out, err = run(monkeypatch, capsys, "live", "--seconds", seconds)
    assert (code, out) == (1, "")
    assert err == f"sottovoce: found --seconds {seconds}, expected 0 or more\n"


class SilentLive:
    """A live session without devices."""

    input_name, output_name, sample_rate, overruns, underruns = "noisy", "clean", 16000, 0, 0
    latency = SimpleNamespace(
        total_seconds=0.03, model_seconds=0.016, blocks_seconds=0.01, input_seconds=0.0, output_seconds=0.0
    )

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_live_is_quiet_as_well(monkeypatch, capsys, identity_model):
    monkeypatch.setattr("sottovoce.cli.live.require", lambda *needed: None)
    monkeypatch.setattr("sottovoce.engine.live.Live", SilentLive)
    command = ("live", "--model", identity_model, "--seconds", "0")
    code, out, err = run(monkeypatch, capsys, *command)
    assert (code, err) == (0, "")
    first, last = out.splitlines()
    assert first.startswith("From 'noisy' to 'clean' at 16000 Hz, latency 30 ms")
    assert last.startswith("Ran 0:0")
    assert run(monkeypatch, capsys, *command, "-q") == (0, "", "")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_a_signal_is_how_live_ends(monkeypatch, capsys, identity_model):
    monkeypatch.setattr("sottovoce.cli.live.require", lambda *needed: None)
    monkeypatch.setattr("sottovoce.engine.live.Live", SilentLive)
    monkeypatch.setattr(SilentLive, "check", lambda session: signal.raise_signal(signal.SIGTERM), raising=False)
    code, out, err = run(monkeypatch, capsys, "live", "--model", identity_model)
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("Ran 0:0")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interruption_that_a_library_swallows_ends_the_command_all_the_same(
    monkeypatch, capsys, recording, identity_model
):
    def swallowing(*arguments, **options):
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        return []

    monkeypatch.setattr("sottovoce.engine.files.enhance_files", swallowing)
    folder = recording.parent
    code, out, err = run(monkeypatch, capsys, "enhance", recording, "-o", folder, "--model", identity_model)
    assert (code, out) == (143, "")
    assert err == "sottovoce: interrupted: what is finished is kept; --resume goes on from there\n"


def test_warnings_are_sentences_in_every_command(monkeypatch, capsys, tmp_path):
    path = tmp_path / "a\x1b[31m.wav"
    sf.write(path, np.full(1600, np.nan), 16000, subtype="FLOAT")
    warning = f"sottovoce: {tmp_path}/a\\x1b[31m.wav: 1600 samples are not finite numbers and were taken as 0\n"
    assert run(monkeypatch, capsys, "info", path)[2] == warning
    assert run(monkeypatch, capsys, "info", path, "-q")[2] == ""


def test_verbose(monkeypatch, capsys, recording, identity_model):
    target = recording.with_name("b.wav")
    command = ("enhance", recording, "-o", target, "--model", identity_model)
    assert run(monkeypatch, capsys, *command, "-v")[2] == f"sottovoce: {recording}: enhanced to {target}\n"
    assert run(monkeypatch, capsys, *command, "--overwrite")[2] == ""


def test_exit_codes_are_documented(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "--help")
    assert [line.split()[0] for line in out.partition("Exit codes:")[2].splitlines()[1:]] == [
        "0",
        "1",
        "2",
        "130",
        "141",
    ]
