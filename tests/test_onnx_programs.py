"""The reference programs for the ONNX file give what the engine gives, and need nothing of it."""

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile as sf

import sottovoce
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.metadata import ModelMetadata
from sottovoce.engine.model import Model
from sottovoce.weights import MODELS

from .conftest import build_identity_model
from .systems import speech, without_warm_up

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "onnx"
RATE = 16000


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("onnx_program", FOLDER / "enhance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recording(tmp_path):
    """Two different channels of noisy speech, after digital silence, in a file of 16 bits."""
    samples = np.stack([speech(0.4), speech(0.4, 5.0)], axis=1)
    samples *= np.float32([0.5, 0.1]) / np.abs(samples).max(axis=0)
    samples[:1000] = 0
    sf.write(tmp_path / "in.wav", samples, RATE, subtype="PCM_16")
    return tmp_path / "in.wav"


def differences(model, recording, enhanced):
    """Steps of 16 bits between what a program and the command wrote."""
    samples, _ = sf.read(recording, dtype="float32", always_2d=True)
    expected = without_warm_up(sottovoce.load(model), np.ascontiguousarray(samples.T))
    assert np.abs(expected).max() > 0.01
    info = sf.info(enhanced)
    assert (info.samplerate, info.subtype, info.format) == (RATE, "PCM_16", "WAV")
    found, _ = sf.read(enhanced, dtype="int16", always_2d=True)
    assert found.shape == samples.shape
    return np.abs(found.T - np.rint(2**15 * expected)).max()


def run(*command):
    return subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("model", MODELS)
def test_numpy_gives_what_the_engine_gives(recording, model):
    enhanced = recording.with_name("out.wav")
    process = run(sys.executable, FOLDER / "enhance.py", MODELS[model], recording, enhanced)
    # Nor does the runtime warn of anything in the file.
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert differences(model, recording, enhanced) <= 1


@pytest.mark.parametrize(
    "framing",
    [
        {"windows": (512,), "hop": 128, "delay_frames": 1},
        {"windows": (96,), "synthesis_window": 40, "hop": 12, "delay_frames": 3},
    ],
)
@pytest.mark.parametrize("samples", [1, 11, 12, 13, 1000])
def test_numpy_follows_the_settings_in_the_file(tmp_path, program, framing, samples):
    path = build_identity_model(tmp_path / "model.onnx", **framing)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    settings = json.loads(session.get_modelmeta().custom_metadata_map["sottovoce"])
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, (2, samples)).astype(np.float32)
    expected = without_warm_up(Enhancer(Model.load(path)), signal)
    np.testing.assert_allclose(program.enhance(session, settings, signal), expected, atol=1e-6)


@pytest.mark.slow
def test_sizes_can_be_fixed_for_compilers_that_want_them(tmp_path):
    pytest.importorskip("onnx")
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ *python (-m onnxruntime\.tools\S+ .*)$", page, re.MULTILINE)
    assert len(lines) == 2
    shutil.copy(MODELS["live"], tmp_path / "my_room.onnx")
    for line in lines:
        subprocess.run([sys.executable, *line.split()], check=True, cwd=tmp_path, capture_output=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "fixed.onnx"), providers=["CPUExecutionProvider"])
    first, *states = session.get_inputs()
    assert all(isinstance(size, int) for node in (first, *states) for size in node.shape)
    model = Model.load(MODELS["live"])
    spectra = np.random.default_rng(0).standard_normal(first.shape).astype(np.float32)
    past = model.initial_past(1)
    found = session.run(
        None, {first.name: spectra} | {node.name: state for node, state in zip(states, past, strict=True)}
    )
    expected, following = model.run(spectra, past)
    for one, other in zip(found, [expected, *following], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_inputs_and_outputs_have_the_names_of_the_page(name):
    session = onnxruntime.InferenceSession(str(MODELS[name]), providers=["CPUExecutionProvider"])
    states = len(Model.load(MODELS[name]).metadata.past_shapes)
    assert [node.name for node in session.get_inputs()] == ["spectra", *(f"past_{i}" for i in range(states))]
    assert [node.name for node in session.get_outputs()] == ["enhanced", *(f"next_{i}" for i in range(states))]


def test_the_table_of_the_bundled_models_is_theirs():
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    described = [Model.load(path).metadata for path in MODELS.values()]
    assert list(MODELS) == ["default", "live"]
    for name, values in (
        ("sample rate", [f"{m.sample_rate} Hz" for m in described]),
        (
            "window W, synthesis window V, hop H",
            [f"{m.windows[0]}, {m.synthesis_window}, {m.hop} samples" for m in described],
        ),
        ("latency V", [f"{1000 * m.latency_seconds:.0f} ms" for m in described]),
        ("calls per second, one frame each", [f"{m.sample_rate / m.hop:g}" for m in described]),
        (
            "states",
            [f"{len(m.past_shapes)}, together {sum(map(np.prod, m.past_shapes))} values" for m in described],
        ),
        ("parameters", [f"{round(m.parameters, -3):,}" for m in described]),
        (
            "multiply-adds per second of sound",
            [f"{m.multiply_adds_per_second / 1e6:.0f} million" for m in described],
        ),
    ):
        assert f"| {name} | {' | '.join(values)} |" in page


def test_every_key_of_the_metadata_is_explained():
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(ModelMetadata):
        assert f"`{field.name}`" in page


def test_numpy_imports_nothing_of_the_package():
    words = (FOLDER / "enhance.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:import|from) (\w+)", words, re.MULTILINE)) == {
        "json",
        "sys",
        "wave",
        "numpy",
        "onnxruntime",
    }


def test_numpy_refuses_another_rate(tmp_path):
    sf.write(tmp_path / "in.wav", np.zeros(100), 8000, subtype="PCM_16")
    process = run(sys.executable, FOLDER / "enhance.py", MODELS["live"], tmp_path / "in.wav", tmp_path / "out.wav")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"found 16 bits at 8000 Hz in {tmp_path / 'in.wav'}, expected 16 bits at 16000 Hz\n"
    assert not (tmp_path / "out.wav").exists()


def test_the_lock_names_versions_and_no_host():
    lock = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))
    wanted = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = {name: content for name, content in lock["packages"].items() if name}
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(content["integrity"] and "resolved" not in content for content in packages.values())


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """The folder of the program with what it needs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("enhance.mjs", "package.json", "package-lock.json"):
        shutil.copy(FOLDER / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=0"]
    process = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)
    if re.search(r"\b(E?NOTFOUND|EAI_AGAIN|ECONN\w+|ETIMEDOUT|ENETUNREACH|E5\d\d)\b", process.stderr):
        pytest.skip("the registry of npm does not answer")
    assert process.returncode == 0, process.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_javascript_gives_what_the_engine_gives(javascript, recording, model):
    enhanced = recording.with_name("out.wav")
    process = run("node", javascript / "enhance.mjs", MODELS[model], recording, enhanced)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert differences(model, recording, enhanced) <= 1


@pytest.mark.slow
def test_javascript_refuses_another_rate(javascript, tmp_path):
    sf.write(tmp_path / "in.wav", np.zeros(100), 8000, subtype="PCM_16")
    process = run("node", javascript / "enhance.mjs", MODELS["live"], tmp_path / "in.wav", tmp_path / "out.wav")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"found 16 bits at 8000 Hz in {tmp_path / 'in.wav'}, expected 16 bits at 16000 Hz\n"
    assert not (tmp_path / "out.wav").exists()
