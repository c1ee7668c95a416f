"""Every `sottovoce ...` line in a code block of README.md and docs/ is a command that exists, with its real options."""

import functools
import re
import shlex
from pathlib import Path

import pytest
import tyro

from sottovoce.cli import COMMANDS
from sottovoce.metrics.scores import MEASURES

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```bash\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\s*(?:\$ )?(?:\S*/)?sottovoce(?: (.*))?$")


def commands(text: str) -> list[str]:
    """Return the arguments of every `sottovoce` call in the code blocks of a Markdown text."""
    lines = [line for _, block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    return [match[1] or "" for match in map(COMMAND.match, lines) if match]


CASES = [
    pytest.param(arguments, id=f"{page.name}: {arguments}")
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for arguments in commands(page.read_text(encoding="utf-8"))
]


def test_finds_commands_in_code_blocks():
    text = "```bash\n$ sottovoce plot a.wav \\\n    -o b.png  # look\n.venv/bin/sottovoce\npip install sottovoce\n```\n"
    assert [shlex.split(line, comments=True) for line in commands(text)] == [["plot", "a.wav", "-o", "b.png"], []]
    assert not commands("`sottovoce enhance` in a sentence\nsottovoce enhance outside of a block\n")


@pytest.mark.parametrize("arguments", CASES)
def test_command_of_the_documentation_parses(arguments):
    name, *rest = shlex.split(arguments, comments=True) or ["--help"]
    if name == "--help":
        return
    assert name in COMMANDS
    if "--help" in rest:
        return

    @functools.wraps(COMMANDS[name].load(name))
    def parsed(*_args, **_kwargs):
        return "parsed"

    assert tyro.cli(parsed, args=rest, prog=f"sottovoce {name}") == "parsed"


def test_readme_shows_the_main_commands():
    shown = {line.split()[0] for line in commands((ROOT / "README.md").read_text(encoding="utf-8")) if line}
    assert shown >= {"enhance", "train", "evaluate", "mix", "plot", "info"}


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_explained(measure):
    assert f"`{measure}`" in (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
