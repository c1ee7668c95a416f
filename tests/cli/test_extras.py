"""Every command without an optional package, and without any: one sentence before any work, or none of it is needed."""

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sottovoce.cli import COMMANDS, main
from sottovoce.extras import EXTRAS, is_installed

ROOT = Path(__file__).parents[2]
METRICS = ("pystoi", "scipy")

# Arguments of each command, and the modules of which it needs every one, by extra. {} stands for the folder.
NEEDS = {
    "enhance {}/a.wav -o {}/b.wav": {},
    "live": {"live": EXTRAS["live"]},
    "train --speech {} --mixtures {} -o {}/new": {"train": EXTRAS["train"]},
    "search --speech {} --mixtures {} --space {}/a.yaml --trials 1 -o {}/new": {
        "train": EXTRAS["train"],
        "metrics": ("pesq", *METRICS),
        "search": EXTRAS["search"],
    },
    "adapt --mixtures {} -o {}/new": {"train": EXTRAS["train"]},
    "export live -o {}/new.onnx": {"train": ["torch", "safetensors", "onnx", "onnxscript"]},
    "mix --speech {} --noise {} --count 1 -o {}/new": {},
    "mix --speech {} --noise {} --count 1 --simulated-rooms 1 -o {}/new": {"train": ["pyroomacoustics"]},
    "evaluate --reference {} --estimate {}": {"metrics": METRICS},
    "evaluate --reference {} --estimate {} -o {}/new": {"metrics": (*METRICS, "matplotlib")},
    "evaluate --estimate {}": {"metrics": ["scipy"]},
    "plot {}/a.wav -o {}/new.png": {"metrics": ["matplotlib"]},
    "plot {}/a.wav --latent -o {}/new.png": {"metrics": ["matplotlib"], "train": ["torch", "safetensors"]},
    "compare {}/a.wav {}/a.wav -o {}/new.html": {},
    "info {}/a.wav": {},
    "info default": {},
    "serve --port 0 --folder {}/new": {"serve": EXTRAS["serve"]},
    "archive make {}/a.wav -o {}/new": {},
    "archive make memory://{} -o {}/new": {"stores": ["fsspec"]},
    "benchmark --quick -o {}/new": {"train": EXTRAS["train"], "metrics": ("pesq", *METRICS)},
    "fetch librispeech-test-clean -o {}/new": {"corpora": EXTRAS["corpora"]},
}


class Absent:
    """A finder of modules, before all others, for which some are not installed."""

    def __init__(self, modules):
        self.modules = modules

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def recording(tmp_path):
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16000), 16000)
    return tmp_path / "a.wav"


def test_every_command_is_here():
    assert {arguments.split()[0] for arguments in NEEDS} == set(COMMANDS)


@pytest.mark.parametrize("arguments", NEEDS)
def test_without_any_extra(recording, arguments):
    words = arguments.replace("{}", str(recording.parent)).split()
    modules = {module for modules in EXTRAS.values() for module in modules}
    code = f"""
import sys
{inspect.getsource(Absent)}
sys.meta_path.insert(0, Absent({modules!r}))
sys.argv[1:] = {words!r}
from sottovoce.cli import main
sys.exit(main())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=60)
    if not NEEDS[arguments]:
        assert (process.returncode, process.stderr) == (0, "")
        return
    (line,) = process.stderr.splitlines()
    assert line.startswith("sottovoce: ")
    assert f"run `pip install 'sottovoce[{next(iter(NEEDS[arguments]))}]'`" in line
    assert (process.returncode, process.stdout) == (1, "")
    assert list(recording.parent.iterdir()) == [recording]


@pytest.mark.parametrize(
    ("arguments", "extra", "module"),
    [
        pytest.param(arguments, extra, module, id=f"{arguments.split()[0]} without {module}")
        for arguments, extras in NEEDS.items()
        for extra, modules in extras.items()
        for module in modules
    ],
)
def test_without_one_module(monkeypatch, capsys, recording, arguments, extra, module):
    if not all(map(is_installed, set(NEEDS[arguments][extra]) - {module})):
        pytest.skip(f"another module of {extra} is not installed either")
    monkeypatch.setattr(sys, "meta_path", [Absent({module}), *sys.meta_path])
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "argv", ["sottovoce", *arguments.replace("{}", str(recording.parent)).split()])
    assert main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"which is not installed: run `pip install 'sottovoce[{extra}]'`" in printed.err
    assert printed.err.count("\n") == 1
    assert list(recording.parent.iterdir()) == [recording]


def test_the_extras_are_those_of_the_package():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"dev"}
    for extra, modules in EXTRAS.items():
        names = {requirement.partition(">")[0].replace("-", "_") for requirement in extras[extra]}
        packages = {"yaml": "pyyaml", "pipecat": "pipecat_ai", "livekit.rtc": "livekit", "grpc": "grpcio"}
        packages["sklearn"] = "scikit_learn"
        assert {packages.get(module, module.replace(".", "_")) for module in modules} <= names
