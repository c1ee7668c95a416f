"""Dockerfile, compose.yaml and the systemd unit say the same as the settings."""

import configparser
import re
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("yaml")
import yaml

from sottovoce.cli import COMMANDS
from sottovoce.service.server import _CLOSING_SECONDS
from sottovoce.service.settings import PREFIX, ServiceSettings

ROOT = Path(__file__).parents[1]
DOCKERFILE, COMPOSE, UNIT = (ROOT / name for name in ("Dockerfile", "compose.yaml", "deploy/sottovoce.service"))
PAGE = ROOT / "docs" / "deployment.md"
FOLDER = "/var/lib/sottovoce"


@pytest.fixture
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return ServiceSettings()


@pytest.fixture
def compose():
    return yaml.safe_load(COMPOSE.read_text())["services"]["sottovoce"]


@pytest.fixture
def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    return parser["Service"]


@pytest.mark.parametrize("path", [DOCKERFILE, COMPOSE, UNIT, PAGE], ids=lambda path: path.name)
def test_every_variable_is_a_setting(path):
    names = set(re.findall(rf"{PREFIX}[A-Z_]+", path.read_text()))
    assert names
    assert names <= {PREFIX + name.upper() for name in ServiceSettings.__dataclass_fields__}


@pytest.mark.parametrize("path", [DOCKERFILE, UNIT, PAGE], ids=lambda path: path.name)
def test_every_extra_exists(path):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = [name for group in re.findall(r"\.\[([\w,]+)\]", path.read_text()) for name in group.split(",")]
    assert set(found) == {"serve", "av"} <= set(extras)


def test_all_mean_the_same_port_and_folder(settings, compose, unit):
    text = DOCKERFILE.read_text()
    port = str(settings.port)
    assert re.findall(r"SOTTOVOCE_PORT=(\d+)", text) == re.findall(r"^EXPOSE (\d+)$", text, re.M) == [port]
    assert compose["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"{PREFIX}PORT={port}" in unit["Environment"]
    assert re.findall(r"SOTTOVOCE_FOLDER=(\S+)", text) == re.findall(r"^VOLUME (\S+)$", text, re.M) == [FOLDER]
    assert compose["volumes"] == [f"state:{FOLDER}"]
    assert unit["StateDirectory"] == Path(FOLDER).name


def test_what_ends_it_waits_for_what_it_enhances(settings, compose, unit):
    needed = settings.grace_seconds + _CLOSING_SECONDS
    assert int(compose["stop_grace_period"].removesuffix("s")) > needed
    assert int(unit["TimeoutStopSec"]) > needed
    assert unit["KillMode"] == "mixed"


def test_the_token_comes_from_a_file_and_never_into_the_image(compose, unit):
    secrets = yaml.safe_load(COMPOSE.read_text())["secrets"]
    assert compose["environment"][f"{PREFIX}TOKEN_FILE"] == "/run/secrets/sottovoce_token"
    assert compose["secrets"] == list(secrets) == ["sottovoce_token"]
    assert unit["LoadCredential"].startswith("token:")
    assert f"{PREFIX}TOKEN_FILE=%d/token" in unit["Environment"]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[ignored.index("*") :][1:-1] == [f"!{name}" for name in copied()]
    assert "sottovoce.token" in (ROOT / ".gitignore").read_text()


def copied():
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.M)
    return [name for line in lines for name in line.split()]


def test_what_is_copied_is_all_that_the_wheel_needs():
    assert all((ROOT / name).exists() for name in copied())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*build["packages"], *build["force-include"], project["project"]["readme"]]
    needed += project["project"]["license-files"]
    assert {name.split("/")[0] for name in needed} <= set(copied())


def test_the_command_is_ours_and_no_root(unit):
    text = DOCKERFILE.read_text()
    assert re.findall(r"^ENTRYPOINT (.+)$", text, re.M) == ['["sottovoce", "serve"]']
    assert unit["ExecStart"].endswith("/bin/sottovoce serve")
    assert "serve" in COMMANDS
    assert re.findall(r"^USER (\d+):\d+$", text, re.M) == re.findall(r"--owner=(\d+)", text)
    assert unit["DynamicUser"] == "yes"
