"""The table of commands, and what is no command."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from sottovoce import cli

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
