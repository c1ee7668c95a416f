"""Sentences about what went wrong: their end, and names from anybody in them."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.wav", "plain name.wav"),
        ("Gespräch 会議\u3000録音 \N{FAMILY}.wav", "Gespräch 会議\u3000録音 \N{FAMILY}.wav"),
        ("\N{MAN}\u200d\N{WOMAN}", "\N{MAN}\u200d\N{WOMAN}"),
        ("red \x1b[31m.wav", r"red \x1b[31m.wav"),
        ("two\nlines\r", r"two\nlines\r"),
        ("c1 \x9b2J", r"c1 \x9b2J"),
        ("gpj.\u202evaw", r"gpj.\u202evaw"),
        ("line\u2028", r"line\u2028"),
        ("no text \udcff", r"no text \udcff"),
        ("bell\a back\b null\0", r"bell\x07 back\x08 null\x00"),
    ],
)
def test_what_acts_on_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_no_text_keeps_a_control_character(text):
    shown = printable(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    shown.encode()


def end_of(message):
    """The last words of a message, as far as the code has them."""
    match message:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=[*_, last]):
            return end_of(last)
        case ast.BinOp(right=right):
            return end_of(right)
        case ast.IfExp(body=body, orelse=orelse):
            return end_of(body) + end_of(orelse)
    return ""


def test_errors_and_warnings_end_without_a_full_stop():
    """Some of them stand within other sentences; reports of what was done end with one."""
    root = Path(__file__).parents[1]
    modules = [*(root / "src").rglob("*.py"), *(root / "experiments").glob("*/src/**/*.py")]
    ends = {}
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            match node:
                case ast.Raise(exc=ast.Call(args=messages)):
                    pass
                case ast.Call(func=ast.Attribute(attr="warn" | "warning"), args=messages):
                    pass
                case _:
                    continue
            ends |= {(module.name, message.lineno): end_of(message) for message in messages}
    assert len(list(filter(None, ends.values()))) > 200  # it sees them
    assert not {where: end for where, end in ends.items() if end.endswith(".")}
