"""The table of commands, and what is no command."""

import inspect
import subprocess
import sys

import pytest

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
