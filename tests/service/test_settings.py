"""Settings of the environment and the command line, and what the service refuses to start with."""

import pytest

from sottovoce import cli
from sottovoce.errors import ConfigError
from sottovoce.service.settings import ServiceSettings, is_loopback

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_defaults_are_for_this_machine_alone(tmp_path):
    settings = ServiceSettings()
    assert (settings.host, settings.port, settings.token) == ("127.0.0.1", 8000, None)
    assert list(settings.model_paths()) == ["default", "live"]
    assert settings.folder == tmp_path / "state" / "sottovoce"


def test_the_environment_sets_and_arguments_are_stronger(monkeypatch, tmp_path):
    for name, value in {
        "SOTTOVOCE_PORT": "9000",
        "SOTTOVOCE_HOSTS": "enhance.example.org other.example.org",
        "SOTTOVOCE_MODELS": "room=runs/room hall=runs/hall.onnx",
        "SOTTOVOCE_MAX_MINUTES": "1.5",
        "SOTTOVOCE_TOKEN": TOKEN,
        "SOTTOVOCE_QUEUE": "",
        "STATE_DIRECTORY": f"{tmp_path}:/elsewhere",
    }.items():
        monkeypatch.setenv(name, value)
    settings = ServiceSettings(max_minutes=2)
    assert (settings.port, settings.max_minutes, settings.token, settings.queue) == (9000, 2, TOKEN, 64)
    assert settings.hosts == ("enhance.example.org", "other.example.org")
    assert [str(path) for path in list(settings.model_paths().values())[2:]] == ["runs/room", "runs/hall.onnx"]
    assert settings.folder == tmp_path
    assert TOKEN not in repr(settings)
    monkeypatch.setenv("SOTTOVOCE_FOLDER", str(tmp_path / "own"))
    assert ServiceSettings().folder == tmp_path / "own"


def test_a_token_may_be_in_a_file(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert ServiceSettings(host="0.0.0.0", token_file=tmp_path / "token").token == TOKEN


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"PORT": "http"}, {}, "found SOTTOVOCE_PORT='http' in the environment, expected a whole number"),
        ({}, {"port": 70_000}, "found port 70000, expected 0 to 65535"),
        ({}, {"workers": 0}, "found workers 0"),
        ({}, {"max_minutes": float("nan")}, "found max_minutes nan"),
        ({}, {"models": ("a/b=c",)}, "found the model 'a/b=c', expected NAME=PATH"),
        ({}, {"models": ("room",)}, "found the model 'room', expected NAME=PATH"),
        ({}, {"models": ("live=runs/room",)}, "found two models of the name 'live'"),
        ({"TOKEN": "short"}, {}, "found a token of 5 characters, expected 16 at least"),
        ({"TOKEN": "with spaces in between"}, {}, "found a token of 22 characters"),
        ({"TOKEN": TOKEN, "TOKEN_FILE": "token"}, {}, "found both SOTTOVOCE_TOKEN and a token file"),
        ({"TOKEN_FILE": "none"}, {}, "cannot read the token file none"),
        *(
            ({}, {"host": host}, f"found the address {host}, which others can reach, and no token")
            for host in ("0.0.0.0", "::", "192.168.0.1", "example.org", "127.0.0.1.example.org")
        ),
    ],
)
def test_refuses_to_start(monkeypatch, tmp_path, variables, arguments, words):
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(f"SOTTOVOCE_{name}", value)
    with pytest.raises(ConfigError) as error:
        ServiceSettings(**arguments)
    assert str(error.value).startswith(words)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST"])
def test_this_machine_needs_no_token(host):
    assert is_loopback(host)
    assert ServiceSettings(host=host).token is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "which others can reach, and no token"),
        (["--models", "room=none.onnx"], "none.onnx"),
        (["--host", "192.0.2.1", "--token-file", "token"], "cannot listen at 192.0.2.1, port 8000"),
        (["--folder", "token"], "cannot use the folder token"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_sentence(monkeypatch, tmp_path, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("sys.argv", ["sottovoce", "serve", *arguments])
    assert cli.main() == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert words in printed.err
