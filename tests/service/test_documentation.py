"""Every example of docs/service.md that calls the service does what it says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sottovoce.service import errors
from sottovoce.service.settings import ServiceSettings

from ..signal.audio.files import noise, save

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
SOURCES = [path.read_text(encoding="utf-8") for path in Path(errors.__file__).parent.glob("*.py")]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    save(tmp_path / "interview.wav", noise(8000))
    monkeypatch.chdir(tmp_path)
    return tmp_path


CURL = [block for block in blocks("bash") if "curl" in block]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("block", CURL)
def test_curl(service, place, block):
    script = block.replace("http://localhost:8000", service.address).replace("curl ", "curl --silent --show-error ")
    process = subprocess.run(["bash", "-euc", script], check=False, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")
    for name in re.findall(r"--output (\S+)", block):
        assert (place / name).stat().st_size == (place / "interview.wav").stat().st_size


@pytest.mark.parametrize("block", blocks("python"))
def test_python(service, place, block):
    exec(block.replace("http://localhost:8000", service.address), {})
    names = re.findall(r'"(from_python\w*\.wav)"', block)
    assert names
    for name in names:
        assert (place / name).stat().st_size == (place / "interview.wav").stat().st_size


def test_there_are_examples():
    assert len(CURL) >= 2
    assert blocks("python")


def test_every_setting_is_in_the_table():
    for name in ServiceSettings.__dataclass_fields__:
        assert f"`SOTTOVOCE_{name.upper()}`" in PAGE
        assert name == "token" or f"`--{name.replace('_', '-')}`" in PAGE


def test_every_code_is_in_the_table():
    found = {code for text in SOURCES for code in re.findall(r"\d{3},\s+\"([a-z_]+)\"", text)}
    found |= {code for text in SOURCES for code in re.findall(r"\d{3}: \"([a-z_]+)\"", text)}
    found |= {code for text in SOURCES for code in re.findall(r"\"code\": \"([a-z_]+)\"", text)}
    found |= {code for _, code in errors._STATUSES.values()}
    assert found >= {"busy", "no_http", "not_found", "invalid_recording", "upload_too_slow"}
    assert {code for code in found if f"`{code}`" not in PAGE} == set()
