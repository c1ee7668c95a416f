"""The interface in one screen, with the bundled default model."""

from pathlib import Path

import numpy as np
import pytest

import sottovoce
from sottovoce.errors import ModelError
from sottovoce.weights import MODELS

from .systems import speech


def test_load_gives_the_bundled_model():
    enhancer = sottovoce.load()
    assert isinstance(enhancer, sottovoce.Enhancer)
    assert enhancer.model.metadata == sottovoce.load(MODELS["default"]).model.metadata
    assert enhancer.model.metadata.sample_rate == 16000
    assert isinstance(enhancer.stream(16000), sottovoce.Stream)


@pytest.mark.parametrize("name", MODELS)
def test_bundled_models_are_loaded_by_name(name):
    assert sottovoce.load(name).model.metadata.name == name
    assert sottovoce.Enhancer.from_pretrained(name).model.metadata == sottovoce.load(name).model.metadata


def test_a_folder_with_the_name_of_a_bundled_model_is_a_path(tmp_path, monkeypatch, identity_model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "model.onnx").write_bytes(identity_model.read_bytes())
    assert sottovoce.load("default").model.metadata.name == "default"
    assert sottovoce.load(Path("default")).model.metadata.name == "identity"
    assert sottovoce.load("./default").model.metadata.name == "identity"


def test_load_takes_a_file(identity_model):
    assert sottovoce.load(identity_model).model.metadata.name == "identity"
    assert sottovoce.load(str(identity_model)).model.metadata.name == "identity"


def test_load_takes_the_folder_of_a_run(tmp_path, identity_model):
    (tmp_path / "model.onnx").write_bytes(identity_model.read_bytes())
    assert sottovoce.load(tmp_path).model.metadata.name == "identity"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"found no model\.onnx in the folder"):
        sottovoce.load(tmp_path / "empty")


def test_load_refuses_what_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"found no readable model file.* name of a bundled model: default"):
        sottovoce.load(tmp_path / "none.onnx")


def test_enhance_is_that_of_the_bundled_model():
    waveform = np.stack([speech(1.0), speech(1.0, start_seconds=4.0)])
    enhanced = sottovoce.enhance(waveform, 16000, limit_db=20.0, mix=0.9)
    assert enhanced.dtype == np.float32
    expected = sottovoce.load().enhance(waveform, 16000, limit_db=20.0, mix=0.9)
    np.testing.assert_array_equal(enhanced, expected)
    assert np.abs(enhanced - waveform).max() > 0.01
    # The model is kept, its state is not: the same again gives the same.
    np.testing.assert_array_equal(sottovoce.enhance(waveform, 16000, limit_db=20.0, mix=0.9), enhanced)


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0), (2, 1), (4410,), (2, 4410)])
def test_enhance_keeps_the_shape(shape):
    assert sottovoce.enhance(np.zeros(shape, np.float32), 44100).shape == shape


def test_enhance_loads_the_model_once(monkeypatch, identity):
    loaded = []
    monkeypatch.setattr(sottovoce, "_default", None)
    monkeypatch.setattr(sottovoce, "load", lambda: loaded.append(identity) or identity)
    waveform = speech(0.1)
    for _ in range(3):
        np.testing.assert_allclose(sottovoce.enhance(waveform, 16000), waveform, atol=1e-6)
    assert loaded == [identity]


@pytest.mark.parametrize("options", [{"mix": 2.0}, {"limit_db": -3.0}])
def test_enhance_refuses_what_is_out_of_range(monkeypatch, identity, options):
    monkeypatch.setattr(sottovoce, "_default", identity)
    with pytest.raises(ValueError, match="expected"):
        sottovoce.enhance(np.zeros(100, np.float32), 16000, **options)


def test_names_of_the_interface():
    for name in sottovoce.__all__:
        assert getattr(sottovoce, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'enhancer_of_everything'"):
        _ = sottovoce.enhancer_of_everything
