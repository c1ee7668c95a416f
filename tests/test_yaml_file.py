"""Settings from anybody: bombs, nonsense and control characters end in one sentence that names the key, at once."""

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sottovoce.config import load_settings
from sottovoce.errors import ConfigError
from sottovoce.yaml_file import read_mapping

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
MERGES = "m0: &m0 {a: 1, b: 2}\n" + "".join(
    f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 9)}]}}\n" for level in range(1, 9)
)


def refusal(path, content, read=read_mapping):
    """Return the message with which a file is refused: one short sentence, soon."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert time.monotonic() - start < 5
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LAUGHS, "a3.9: found more than 10,000 values"),
        (MERGES, "found more than 10,000 values"),
        ("deep: " + "[" * 5000, "nested more than 20 levels deep"),
        ("deep: " + "{a: " * 5000, "nested more than 20 levels deep"),
        ("deep: " + "[" * 30 + "]" * 30, "nested more than 20 levels deep, line 1"),
        ("self: &a [1, *a]", "self.1: found more than 20 levels, made by aliases"),
        ("x: " + "y" * 70_000, "found more than 64 KiB"),
        ("name: 2026-13-45", "name: found '2026-13-45', which looks like a value of type timestamp and is none"),
        ("a: {b: [1, !!int twelve]}", "a.b.1: found 'twelve', which looks like a value of type int"),
        ("a: !!float x", "a: found 'x', which looks like a value of type float"),
        ("a: !!timestamp never", "a: found 'never', which looks like a value of type timestamp"),
        ("a: !!binary ä", "a: found 'ä', which looks like a value of type binary"),
        (f"a: {'9' * 5000}", "a: found '9999"),
        ("a: !!python/object/apply:os.system [ls]", "found no valid YAML"),
        ("? [a]\n: 1", "found no valid YAML"),
        ("a: &x [1]\n<<: *x", "found no valid YAML"),
        ("a: *nothing", "found no valid YAML"),
        (b"name: a\0b", "found no valid YAML"),
        (b"\xff\xfe\xfd", "found no valid YAML"),
    ],
)
def test_hostile_files_are_refused_at_once(tmp_path, content, words):
    assert words in refusal(tmp_path / "mine.yaml", content)


def test_aliases_serve_as_usual(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {width: 3}\nb: *a\nc: {<<: *a, more: 2026-01-02}\n", encoding="utf-8")
    content = read_mapping(path)
    assert content["b"] == content["a"] == {"width": 3}
    assert content["c"].keys() == {"width", "more"}


def test_a_path_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="null"):
        read_mapping(tmp_path / "a\0.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('base: "a\\0.yaml"', "base: expected the name of settings"),
        ('base: "\\e[31mred.yaml"', r"found '\x1b[31mred.yaml'"),
        ('base: default\nname: "\\e[31mred"', "name: is text without control characters"),
        ('base: default\nname: "a\\0b"', "name: is text without control characters"),
        ("base: default\nname: ''", "name: String should have at least 1 character"),
        ("base: default\nname: 2026-01-02", "name: Input should be a valid string, found datetime.date"),
        (f"base: default\n{'k' * 500}: 1", "kkk...: unknown key, found 1"),
        (f"base: default\nname: [{'x' * 500}]", "xxx..."),
    ],
)
def test_settings_are_named_in_one_short_sentence(tmp_path, content, words):
    assert words in refusal(tmp_path / "mine.yaml", content, load_settings)


def test_a_long_chain_of_bases_is_refused(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.yaml").write_text(f"base: {number + 1}.yaml\nname: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="on more than 10 others"):
        load_settings(tmp_path / "0.yaml")


PIECES = [
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "\n",
    "  ",
    "<<",
    "!!int ",
    "!!set ",
    "|",
    ">",
    "?",
    "'",
    '"',
    "#",
]
PIECES += [
    "base",
    "default",
    "name",
    "training",
    "1e999",
    ".nan",
    "0x",
    "1_0:9",
    "2001-99-99",
    "\0",
    "\x1b",
    "\ud800",
    "~",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=25))
@example(parts=["base: default\n", "training: {seed: .inf}"])
def test_any_text_gives_settings_or_a_config_error(tmp_path, parts):
    path = tmp_path / "mine.yaml"
    path.write_text("".join(parts), encoding="utf-8", errors="surrogatepass")
    try:
        lines = [load_settings(path).name]
    except ConfigError as error:
        lines = str(error).split("\n")
    assert len(lines) == 1
