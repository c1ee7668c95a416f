"""A model runs as its metadata say, or fails in one clear sentence."""

import numpy as np
import pytest

from sottovoce.engine.model import Model
from sottovoce.errors import ModelError
from sottovoce.weights import MODELS

from ..conftest import build_identity_model
from .model_files import identity_file, refusal, resealed

__all__ = ["identity_file"]  # a fixture


def test_loads_and_runs(model_file):
    model = Model.load(str(model_file))
    assert model.metadata.name == "identity"
    assert model.metadata.latency_seconds == pytest.approx((64 + 3 * 16) / 16000)
    past = model.initial_past(2)
    assert [(state.shape, state.dtype) for state in past] == [((2, 66, 3), np.float32)]
    spectra = np.random.default_rng(0).standard_normal((2, 2, 33 + 17, 10)).astype(np.float32)
    enhanced, following = model.run(spectra, past)
    # The longest window's rows come back, three frames late; the state holds the frames on their way.
    np.testing.assert_array_equal(enhanced[..., 3:], spectra[:, :, :33, :-3])
    assert not enhanced[..., :3].any()
    rest, _ = model.run(np.zeros((2, 2, 50, 3), np.float32), following)
    np.testing.assert_array_equal(rest, spectra[:, :, :33, -3:])


def test_folder_of_a_run_is_its_model(model_file):
    folder = model_file.parent / "run"
    folder.mkdir()
    model_file.rename(folder / "model.onnx")
    assert Model.load(folder).metadata == Model.load(folder / "model.onnx").metadata


@pytest.mark.parametrize(
    "change",
    [
        {"windows": [128, 32], "synthesis_window": 128},
        {"windows": [64]},
        {"past_shapes": [[66, 2]]},
        {"past_shapes": []},
        {"past_shapes": [[66, 3], [1, 1]]},
    ],
)
def test_shapes_that_do_not_fit_the_settings_are_refused(model_file, change):
    message = refusal(resealed(model_file, lambda content: content.update(change)))
    assert "has inputs of shapes" in message
    assert "(None, 2, 50, None)" in message


@pytest.mark.parametrize("name", MODELS)
def test_bundled_networks_are_optimised_and_are_not_optimised_again(tmp_path, name):
    """That takes as long as two seconds of sound, at every start."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    runtime.InferenceSession(str(MODELS[name]), options, providers=["CPUExecutionProvider"])
    counts = [len(onnx.load(path).graph.node) for path in (MODELS[name], tmp_path / "optimised.onnx")]
    assert counts[0] <= 1.05 * counts[1]
    session = Model.load(MODELS[name])._session
    used = session.get_session_options().graph_optimization_level
    assert used == runtime.GraphOptimizationLevel.ORT_DISABLE_ALL


@pytest.mark.parametrize("gain", [np.nan, np.inf, -np.inf, 3e38])
def test_a_network_that_gives_no_numbers_fails(tmp_path, gain):
    model = Model.load(build_identity_model(tmp_path / "model.onnx", gain=gain))
    with pytest.raises(ModelError, match=r"model\.onnx gave values that are no numbers"):
        model.run(np.ones((1, 2, 257, 3), np.float32), model.initial_past(1))


def test_a_network_that_cannot_run_fails(model_file):
    model = Model.load(model_file)
    with pytest.raises(ModelError, match=r"the network of .*model\.onnx failed \(.*\): export it again"):
        model.run(np.ones((1, 2, 50, 3), np.float32), [np.zeros((1, 66, 9), np.float32)])
