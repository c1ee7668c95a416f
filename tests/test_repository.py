"""What belongs to the repository as a whole: licences, attributions, sizes, pins, and no path of anyone's machine."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
AUDIO = {".wav", ".flac", ".ogg", ".mp3"}
# A path below the home of a person or the work folder of a machine; written so that this file does not hold one.
MACHINE_PATH = re.compile(r"(?<![\w.~*-])/(?:home|root|Users|work|mnt|workspace)/[\w.]")


@pytest.fixture(scope="module")
def tracked_files() -> list[Path]:
    """Return the files that git tracks or would track."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    names = subprocess.check_output(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], text=True
    )
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_paths(tracked_files):
    found = []
    for path in tracked_files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            # Settings kept inside a model file are text as well.
            text = path.read_bytes().decode("latin-1") if path.suffix in {".onnx", ".safetensors"} else ""
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert not found


def test_bundled_audio_has_its_attribution():
    folders = {path.parent for path in EXAMPLES.rglob("*") if path.suffix.lower() in AUDIO}
    assert folders, "examples/ holds no recordings"
    for folder in folders:
        # The one of a folder also speaks for the folders below it.
        candidates = [place for place in (folder, *folder.parents) if place.is_relative_to(EXAMPLES)]
        assert any((place / "ATTRIBUTION.md").is_file() for place in candidates), folder.relative_to(ROOT)


def test_examples_are_small():
    assert sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file()) < 8_500_000


def test_licence_is_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


@pytest.mark.parametrize("package", ["lightning", "pytorch-lightning"])
@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_malicious_uploads_are_forbidden(package, version):
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    assert any(line.startswith(package) and f"!={version}" in line for line in lines)


def test_lightning_of_the_package_forbids_them_too():
    train = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    (lightning,) = [line for line in train if line.startswith("lightning")]
    assert {"!=2.6.2", "!=2.6.3"} <= set(re.findall(r"!=[\d.]+", lightning))
