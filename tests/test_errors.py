"""Names from anybody, as they are shown."""

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
