"""The direction of imports, and what the light commands must not load: see docs/architecture.md."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import sottovoce
from sottovoce.cli import COMMANDS

PACKAGE = Path(sottovoce.__file__).parent

EVERYBODY_KNOWS = {"errors", "extras", "atomic", "interruption", "paths", "progress", "runtime"}
# A part of the package, and the parts that it may know beside those.
MAY_KNOW = {
    "errors": set(),
    "extras": set(),
    "atomic": set(),
    "interruption": set(),
    "paths": set(),
    "progress": set(),
    "runtime": set(),
    "terminal": {"engine"},
    "config": {"older_settings", "yaml_file"},
    "yaml_file": set(),
    "older_settings": set(),
    "weights": set(),
    "signal": set(),
    "engine": {"signal", "weights"},
    "models": {"signal", "config", "engine"},  # of engine, the exported file alone: see below
    "objectives": {"signal", "config", "models"},
    "data": {"signal", "config", "archive"},
    "training": {"signal", "config", "engine", "models", "objectives", "data", "metrics", "weights", "archive"},
    "metrics": {"signal"},
    "search": {"signal", "config", "models", "data", "training", "metrics", "yaml_file"},
    "service": {"signal", "engine", "weights", "training"},
    "integrations": {"signal", "engine"},
    "archive": {"signal", "engine", "metrics"},
    "cli": {
        "signal",
        "config",
        "engine",
        "models",
        "objectives",
        "data",
        "training",
        "metrics",
        "search",
        "service",
        "archive",
        "weights",
        "terminal",
    },
    "__init__": {"engine", "weights"},
    "__main__": {"cli"},
}

LIGHTNING = {"lightning", "pytorch_lightning"}
AGENTS = {"pipecat", "livekit"}
TUNER = {"optuna"}
CLUSTER = {"ray", "fsspec", "s3fs", "pyarrow"}
SERVER = {"fastapi", "starlette", "uvicorn", "h11", "python_multipart", "prometheus_client"}
MUST_NOT_KNOW = {
    "signal": {"torch", "onnxruntime", "matplotlib", "scipy", "librosa"},
    "engine": {"torch", "matplotlib", "scipy", "librosa"},
    "models": {"soundfile", "soxr", "matplotlib", "sottovoce.signal.audio", "sottovoce.engine.enhancer"},
    "training": {"sottovoce.engine.enhancer"},
    "objectives": {"soundfile", "soxr", "matplotlib"},
    "metrics": {"torch"},
}

HEAVY = (
    SERVER
    | AGENTS
    | CLUSTER
    | TUNER
    | {
        "torch",
        "lightning",
        "matplotlib",
        "scipy",
        "librosa",
        "pandas",
        "tensorboard",
        "onnx",
        "pyroomacoustics",
    }
)

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    """Return the part of the package (a folder, or a module of the top level) that a file belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST) -> set[str]:
    """Return the dotted names that a module imports anywhere; `from a import b` gives `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(module):
    part = part_of(module)
    names = imported_names(ast.parse(module.read_text(encoding="utf-8")))
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    known = {name.split(".")[1] for name in names if name.startswith("sottovoce.")} & parts
    assert known <= MAY_KNOW[part] | EVERYBODY_KNOWS | {part}

    assert not {name for name in names if name.split(".")[0] in ("sspd2023", "images")}  # they stand on this package
    forbidden = MUST_NOT_KNOW.get(part, set()) | (LIGHTNING if part not in ("training", "cli") else set())
    forbidden |= SERVER if part != "service" else set()
    forbidden |= AGENTS if part != "integrations" else set()
    forbidden |= CLUSTER if part != "archive" else set()
    forbidden |= TUNER if part != "search" else set()
    assert not {name for name in names if name in forbidden or name.split(".")[0] in forbidden}


def test_every_part_has_its_rule():
    assert {part_of(module) for module in MODULES} <= set(MAY_KNOW)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_terminal_prints(module):
    calls = (node for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    lines = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert not lines or part_of(module) == "terminal"


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that are loaded after a piece of code has run in a fresh process."""
    report = "import sys; print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, timeout=120
    )
    return set(process.stdout.rpartition("LOADED")[2].split())


def test_import_loads_nothing_heavy():
    loaded = loaded_by("import sottovoce")
    assert "sottovoce" in loaded
    assert not loaded & (HEAVY | {"numpy", "onnxruntime", "pydantic", "tyro", "rich"})


def test_enhancer_loads_no_extra():
    loaded = loaded_by("import sottovoce; sottovoce.enhance; sottovoce.Enhancer; sottovoce.Stream")
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_help_loads_no_extra():
    # What all of them load together is no less than what each of them loads.
    code = f"""
import sys
from sottovoce.cli import main
for command in {list(COMMANDS)!r}:
    sys.argv = ["sottovoce", command, "--help"]
    try:
        main()
    except SystemExit as exit:
        assert not exit.code, (command, exit.code)
"""
    assert not loaded_by(code) & HEAVY


def test_enhance_command_loads_nothing_that_it_does_not_need(tmp_path, identity_model):
    sf.write(tmp_path / "in.wav", np.zeros(16000), 16000)
    code = f"""
import sys
from sottovoce.cli import main
sys.argv = ["sottovoce", "enhance", {str(tmp_path / "in.wav")!r}, "-o", {str(tmp_path / "out.wav")!r}]
sys.argv += ["--model", {str(identity_model)!r}]
assert main() == 0
"""
    loaded = loaded_by(code)
    assert {"onnxruntime", "tyro"} <= loaded
    # tyro loads typeguard, and that unittest and asyncio, to check defaults of types that cli.arguments avoids: 45 ms.
    # secrets loads hmac, and that what signs messages: random bytes come from the system.
    needless = {"typeguard", "unittest", "asyncio", "rich", "pydantic", "sounddevice", "secrets", "hmac"}
    assert not loaded & (HEAVY | needless)


def test_a_worker_of_the_service_and_its_client_load_no_server():
    loaded = loaded_by("import sottovoce.service.work, sottovoce.service.stream_work, sottovoce.service.client")
    assert "numpy" in loaded
    assert not loaded & (HEAVY | {"pydantic", "asyncio", "tyro"})


def test_the_list_of_commands_loads_none():
    loaded = loaded_by("import sys; from sottovoce.cli import main; sys.argv = ['sottovoce', '--help']; main()")
    assert not loaded & (HEAVY | {"numpy", "onnxruntime", "pydantic", "tyro", "rich"})


def test_import_is_quick():
    code = "import time; start = time.process_time(); import sottovoce; print(time.process_time() - start)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code], timeout=120)) for _ in range(3)]
    assert min(seconds) < 0.1


def test_nothing_is_sent_to_anybody(tmp_path):
    """The engine's runtime would keep an identity of the machine, and what it is used for, to send them."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    program = "import numpy, sottovoce; sottovoce.enhance(numpy.zeros(1600, numpy.float32), 16000)"
    subprocess.run([sys.executable, "-c", program], check=True, env=environment | {"HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
