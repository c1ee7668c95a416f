"""Fixtures that several parts share."""

import csv
import gc
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tests.signal.audio.files import film, tone

# DNSMOS repeats short signals to at least 9.01 s: half and quarter of 9.6 s are rated as one segment, which is quick.
LENGTH = 76_800
PAIRS = Path(__file__).parents[1] / "examples" / "pairs"


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect no garbage while modules are imported, and leave them out of later collections: torch is large."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def m4a(tmp_path_factory):
    """A second of a tone as AAC, which ends within a frame: its packets give another length than the decoder gives."""
    path = tmp_path_factory.mktemp("m4a") / "tone.m4a"
    return film(path, [(0.0, tone(1.0, rate=44100))], codec="aac", picture_seconds=0, rate=44100)


@pytest.fixture(scope="session")
def wma(tmp_path_factory):
    """A second of a tone of a kind that is read and not written."""
    path = tmp_path_factory.mktemp("wma") / "tone.wma"
    return film(path, [(0.0, tone(1.0))], codec="wmav2", picture_seconds=0, bit_rate=64000)


def build_identity_model(path, *, windows=(512,), synthesis_window=None, hop=128, delay_frames=1, gain=1.0):
    """Write an exported network that gives back the spectra of the longest window times a gain, some frames later."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    from sottovoce.engine.metadata import ModelMetadata
    from sottovoce.engine.model_file import METADATA_KEY, seal

    bins = [window // 2 + 1 for window in windows]
    rows = 2 * bins[0]
    metadata = ModelMetadata(
        name="identity",
        sample_rate=16000,
        windows=windows,
        synthesis_window=synthesis_window or windows[0],
        hop=hop,
        delay_frames=delay_frames,
        past_shapes=((rows, delay_frames),),
        parameters=0,
        multiply_adds_per_second=0,
        licence="Apache-2.0",
        training_data=("none",),
        command="tests/conftest.py",
        settings={"seed": 0},
    )
    integers = {
        "zero": [0],
        "end": [2**62],
        "bins": [bins[0]],
        "delay": [-delay_frames],
        "axis2": [2],
        "flat": [0, rows, -1],
        "deep": [0, 2, bins[0], -1],
    }
    nodes = [
        helper.make_node("Slice", ["spectra", "zero", "bins", "axis2"], ["longest"]),
        helper.make_node("Reshape", ["longest", "flat"], ["now"]),
        helper.make_node("Concat", ["past_0", "now"], ["all"], axis=2),
        helper.make_node("Slice", ["all", "zero", "delay", "axis2"], ["lagging"]),
        helper.make_node("Slice", ["all", "delay", "end", "axis2"], ["next_0"]),
        helper.make_node("Reshape", ["lagging", "deep"], ["unscaled"]),
        helper.make_node("Mul", ["unscaled", "gain"], ["enhanced"]),
    ]
    graph = helper.make_graph(
        nodes,
        "identity",
        [
            helper.make_tensor_value_info("spectra", TensorProto.FLOAT, ["batch", 2, sum(bins), "frames"]),
            helper.make_tensor_value_info("past_0", TensorProto.FLOAT, ["batch", rows, delay_frames]),
        ],
        [
            helper.make_tensor_value_info("enhanced", TensorProto.FLOAT, ["batch", 2, bins[0], "frames"]),
            helper.make_tensor_value_info("next_0", TensorProto.FLOAT, ["batch", rows, delay_frames]),
        ],
        [
            helper.make_tensor("gain", TensorProto.FLOAT, [], [gain]),
            *(helper.make_tensor(name, TensorProto.INT64, [len(values)], values) for name, values in integers.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    path.write_bytes(seal(model.SerializeToString()))
    return path


@pytest.fixture(scope="session")
def identity_model(tmp_path_factory):
    """Path of an exported network whose output is its input."""
    return build_identity_model(tmp_path_factory.mktemp("model") / "identity.onnx")


@pytest.fixture(scope="session")
def identity(identity_model):
    """An enhancer whose output is its input, as far as 16 kHz can hold it."""
    from sottovoce.engine.enhancer import Enhancer
    from sottovoce.engine.model import Model

    return Enhancer(Model.load(identity_model))


@pytest.fixture(scope="session")
def traced_once(request, tmp_path_factory):
    """Exports without the tracing of graphs that an earlier test has traced."""
    from .systems import traced_once

    cache = request.config.pluginmanager.hasplugin("cacheprovider")
    with traced_once(request.config.cache.mkdir("graphs") if cache else tmp_path_factory.mktemp("graphs")):
        yield


@pytest.fixture(scope="session")
def pairs():
    """Folder of the five bundled pairs."""
    return PAIRS


@pytest.fixture(scope="session")
def reference_scores():
    """Scores of the noisy side of the bundled pairs by file name."""
    with (PAIRS / "reference_scores.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop("file"): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def clean():
    return sf.read(PAIRS / "clean" / "fileid_0016.flac", dtype="float32")[0][:LENGTH]


@pytest.fixture(scope="session")
def noisy():
    return sf.read(PAIRS / "noisy" / "fileid_0016.flac", dtype="float32")[0][:LENGTH]


@pytest.fixture(scope="module")
def functions(request, tmp_path_factory):
    """The `FUNCTIONS` of a file of tests as a module, which worker processes can import."""
    folder = tmp_path_factory.mktemp("functions")
    name = f"functions_of_{request.module.__name__.rpartition('.')[2]}"
    (folder / f"{name}.py").write_text(request.module.FUNCTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module(name)
    del sys.modules[name]


@pytest.fixture
def rated_quickly(tmp_path_factory):
    """Another network in place of that of DNSMOS."""
    from .metrics.quick_dnsmos import quick_dnsmos

    with quick_dnsmos(tmp_path_factory.mktemp("ratings")):
        yield


@pytest.fixture
def folders(tmp_path, clean, noisy):
    """Two short recordings `a` and `deep/b` in clean/, noisy/ and enhanced/."""
    enhanced = clean + np.float32(0.3) * (noisy - clean)
    for name, waveform in (("clean", clean), ("noisy", noisy), ("enhanced", enhanced)):
        (tmp_path / name / "deep").mkdir(parents=True)
        sf.write(tmp_path / name / "a.wav", waveform[: LENGTH // 2], 16_000, subtype="FLOAT")
        sf.write(tmp_path / name / "deep" / "b.wav", waveform[LENGTH // 2 :], 16_000, subtype="FLOAT")
    return tmp_path


@pytest.fixture(scope="session")
def exploding(tmp_path_factory):
    """An enhancer whose network is beyond all bounds wherever there is any sound, and silent elsewhere."""
    from sottovoce.engine.enhancer import Enhancer
    from sottovoce.engine.model import Model

    path = tmp_path_factory.mktemp("model") / "exploding.onnx"
    return Enhancer(Model.load(build_identity_model(path, gain=3e38)))
