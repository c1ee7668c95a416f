"""The one file: what is ours loads, and everything else is refused in one clear sentence."""

import hashlib
import json
from dataclasses import FrozenInstanceError

import numpy as np
import onnx
import pytest

from sottovoce.engine.metadata import ModelMetadata
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY, seal
from sottovoce.errors import ModelError

from ..conftest import build_identity_model

TAIL = 86  # field head, key of 16 bytes, hash of 64


@pytest.fixture
def model_file(tmp_path):
    return build_identity_model(tmp_path / "model.onnx", windows=(64, 32), hop=16, delay_frames=3)


def refusal(path):
    """Return the message with which a file is refused: one sentence that names the file."""
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400
    return message


def nested(depth):
    """A mapping in a mapping in a mapping ..."""
    content = {}
    for _ in range(depth):
        content = {"inner": content}
    return content


def resealed(path, change):
    """Change the metadata of a model file and seal it again."""
    graph = onnx.load_from_string(path.read_bytes()[:-TAIL])
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    content = json.loads(properties[METADATA_KEY])
    change(content)
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(content)})
    path.write_bytes(seal(graph.SerializeToString()))
    return path


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


def test_seal_keeps_a_valid_onnx_model(model_file):
    content = model_file.read_bytes()
    payload = content[:-TAIL]
    assert seal(payload) == content
    assert content[-64:].decode() == hashlib.sha256(payload).hexdigest()
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph)
    assert graph.graph == onnx.load_from_string(payload).graph
    assert {entry.key for entry in graph.metadata_props} == {METADATA_KEY, "sottovoce_sha256"}


def test_metadata_are_frozen_and_complete(model_file):
    metadata = Model.load(model_file).metadata
    with pytest.raises(FrozenInstanceError):
        metadata.hop = 1
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_missing_file_is_refused(tmp_path):
    message = refusal(tmp_path / "none.onnx")
    assert "found no readable model file" in message
    assert "No such file" in message
    assert f"found no model.onnx in the folder {tmp_path}" in refusal(tmp_path)


def test_folder_of_a_run_is_its_model(model_file):
    folder = model_file.parent / "run"
    folder.mkdir()
    model_file.rename(folder / "model.onnx")
    assert Model.load(folder).metadata == Model.load(folder / "model.onnx").metadata


@pytest.mark.parametrize("content", [b"", b"x", b"RIFF\x00\x00\x00\x00WAVE", b"\x00" * 1000])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "is not a model exported by sottovoce" in refusal(path)


def test_foreign_onnx_is_refused(model_file):
    # A valid ONNX model, but nothing says that it was sealed here.
    payload = model_file.read_bytes()[:-TAIL]
    onnx.checker.check_model(onnx.load_from_string(payload))
    model_file.write_bytes(payload)
    assert "is not a model exported by sottovoce" in refusal(model_file)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_cut_file_is_refused(model_file, kept):
    content = model_file.read_bytes()
    model_file.write_bytes(content[: int(kept * len(content))])
    assert "cut or altered" in refusal(model_file)


@pytest.mark.parametrize("place", [0, 100, 0.3, 0.6, -TAIL - 1, -TAIL, -70, -1])
def test_one_altered_byte_is_refused(model_file, place):
    content = bytearray(model_file.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    model_file.write_bytes(content)
    assert "cut or altered" in refusal(model_file)


def test_appended_bytes_are_refused(model_file):
    model_file.write_bytes(model_file.read_bytes() + b"\n")
    assert "cut or altered" in refusal(model_file)


def test_other_format_version_is_refused(model_file):
    message = refusal(resealed(model_file, lambda content: content.update(format_version=1)))
    assert "format version: found 1, expected 2" in message
    assert "update sottovoce" in message


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("keys: hop", lambda content: content.pop("hop")),
        ("hop: found 'wide', expected a whole number from 1", lambda content: content.update(hop="wide")),
        ("hop: found True, expected a whole number", lambda content: content.update(hop=True)),
        ("hop: found 16.0, expected a whole number", lambda content: content.update(hop=16.0)),
        (
            "sample_rate: found 0, expected a whole number from 8000 to 48000",
            lambda content: content.update(sample_rate=0),
        ),
        ("sample_rate: found 1099511627776", lambda content: content.update(sample_rate=2**40)),
        ("synthesis_window: found None", lambda content: content.update(synthesis_window=None)),
        ("synthesis window of 66 samples", lambda content: content.update(synthesis_window=66)),
        ("windows: found [], expected a list of 1 to 8", lambda content: content.update(windows=[])),
        ("windows: found 512, expected a list", lambda content: content.update(windows=512)),
        ("windows: found 4294967296", lambda content: content.update(windows=[2**32])),
        ("delay_frames: found -1", lambda content: content.update(delay_frames=-1)),
        ("delay_frames: found 1000000000", lambda content: content.update(delay_frames=10**9)),
        ("past_shapes: found [66], expected a list of 2", lambda content: content.update(past_shapes=[[66]])),
        ("past_shapes: found more than 16,777,216", lambda content: content.update(past_shapes=[[2**20, 2**20]])),
        ("parameters: found 'many'", lambda content: content.update(parameters="many")),
        ("name: found ['x'], expected text", lambda content: content.update(name=["x"])),
        ("licence: found None, expected text", lambda content: content.update(licence=None)),
        ("training_data: found {}, expected a list", lambda content: content.update(training_data={})),
        ("training_data: found 3, expected text", lambda content: content.update(training_data=[3])),
        ("command: found 'xxx", lambda content: content.update(command="x" * 20_000)),
        ("settings: found [], expected a mapping", lambda content: content.update(settings=[])),
        ("16 levels deep", lambda content: content.update(settings=nested(20))),
        ("characters of JSON", lambda content: content.update(settings={"x": "x" * 2**20})),
        ("found NaN, which is no number", lambda content: content.update(settings={"rate": float("nan")})),
        ("keys: colour", lambda content: content.update(colour="red")),
    ],
)
def test_settings_that_cannot_be_used_are_refused(model_file, words, change):
    message = refusal(resealed(model_file, change))
    assert "has settings that this version cannot use" in message
    assert words in message


def test_sealed_onnx_without_settings_is_refused(model_file):
    graph = onnx.load_from_string(model_file.read_bytes()[:-TAIL])
    del graph.metadata_props[:]
    model_file.write_bytes(seal(graph.SerializeToString()))
    assert "has settings that this version cannot use" in refusal(model_file)


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


def test_unsealed_bytes_are_named_by_their_origin():
    with pytest.raises(ModelError, match=r"^the upload is not a model"):
        Model(b"nothing", "the upload")


@pytest.mark.parametrize("gain", [np.nan, np.inf, -np.inf, 3e38])
def test_a_network_that_gives_no_numbers_fails(tmp_path, gain):
    model = Model.load(build_identity_model(tmp_path / "model.onnx", gain=gain))
    with pytest.raises(ModelError, match=r"model\.onnx gave values that are no numbers"):
        model.run(np.ones((1, 2, 257, 3), np.float32), model.initial_past(1))


def test_a_network_that_cannot_run_fails(model_file):
    model = Model.load(model_file)
    with pytest.raises(ModelError, match=r"the network of .*model\.onnx failed \(.*\): export it again"):
        model.run(np.ones((1, 2, 50, 3), np.float32), [np.zeros((1, 66, 9), np.float32)])
