"""The file of a place: its model with what it adds, and one clear sentence for everything else."""

import json
import pickle

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sottovoce.engine.adapters import BASE_NAME, LowRank, read_adapters, write_adapters
from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.graph import float_constants, with_property
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY, seal, unsealed
from sottovoce.errors import ModelError
from sottovoce.weights import MODELS

from ..conftest import build_identity_model

BIAS, MATRIX = "model.shared.conv.conv.bias", "model.shared.conv.conv.weight"  # 64, and 64 x 64


def changes(seed=0):
    rng = np.random.default_rng(seed)
    left, right = (rng.standard_normal(shape).astype(np.float32) for shape in ((64, 2), (2, 64)))
    return {BIAS: rng.standard_normal(64).astype(np.float32), MATRIX: (left, right)}


@pytest.fixture(scope="module")
def base():
    return MODELS["live"].read_bytes()


@pytest.fixture(scope="module")
def content(base):
    return write_adapters(changes(), base=base, training_data=("A room.",), command="sottovoce adapt")


def refusal(content, folder):
    """Return the sentence with which the engine refuses a file."""
    path = folder / "room.place"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def altered(content, change):
    """A file whose header is changed, and its hash left as it is."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


def test_what_it_adds_is_in_the_model_and_nothing_else_changes(base, content):
    adapted = read_adapters(content, "it").applied(base, "it")
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(file).graph.initializer}
        for file in (base, adapted)
    )
    onnx.checker.check_model(onnx.load_from_string(adapted))
    bias, (left, right) = changes().values()
    rounded = [part.astype(np.float16).astype(np.float32) for part in (bias, left, right)]
    np.testing.assert_allclose(after[BIAS], before[BIAS] + rounded[0], atol=1e-6)
    np.testing.assert_allclose(after[MATRIX], before[MATRIX] + rounded[1] @ rounded[2], atol=1e-5)
    assert before.keys() == after.keys()
    for name in before.keys() - {BIAS, MATRIX}:
        np.testing.assert_array_equal(after[name], before[name])


def test_metadata_say_of_which_model_and_place(base, content):
    before, after = (Model(file, "it").metadata for file in (base, read_adapters(content, "it").applied(base, "it")))
    assert (before.name, after.name) == ("live", "live_adapted")
    assert after.training_data == (*before.training_data, "A room.")
    assert after.command == "sottovoce adapt"
    assert (after.licence, after.settings) == (before.licence, before.settings)


def test_file_is_one_of_safetensors(content, tmp_path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    tensors = numpy_format.load(content)
    assert set(tensors) == {BIAS, f"{MATRIX}.left", f"{MATRIX}.right"}
    np.testing.assert_array_equal(tensors[BIAS], changes()[BIAS].astype(np.float16))


def test_nothing_to_add_is_the_model_itself(base):
    empty = write_adapters({}, base=base, training_data=(), command="")
    assert read_adapters(empty, "it").applied(base, "it") == base


def test_a_place_is_a_model_wherever_one_is_named(content, tmp_path):
    path = tmp_path / "room.place"
    path.write_bytes(content)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    given = [Enhancer.from_pretrained(named).enhance(noise, 16000) for named in (path, str(path))]
    np.testing.assert_array_equal(*given)
    assert np.abs(given[0] - Enhancer.from_pretrained("live").enhance(noise, 16000)).max() > 1e-4
    # Processes that work on a folder get it by pickle.
    again = pickle.loads(pickle.dumps(Model.load(path)))
    np.testing.assert_array_equal(Enhancer(again).enhance(noise, 16000), given[0])


def identity_place(folder, gain=1.0):
    """A place of a model that is not bundled."""
    base = build_identity_model(folder / BASE_NAME).read_bytes()
    payload = onnx.load_from_string(unsealed(base))
    for tensor in payload.graph.initializer:
        if tensor.name == "gain":
            tensor.CopyFrom(numpy_helper.from_array(np.array(gain, np.float32), "gain"))
    (folder / BASE_NAME).write_bytes(seal(payload.SerializeToString()))
    return (folder / BASE_NAME).read_bytes()


def test_a_model_that_is_not_bundled_lies_beside_it(tmp_path):
    base = identity_place(tmp_path)
    place = write_adapters({"gain": np.array(-0.5, np.float32)}, base=base, training_data=(), command="")
    (tmp_path / "room.place").write_bytes(place)
    spectra = np.ones((1, 2, 257, 1), np.float32)
    model = Model.load(tmp_path / "room.place")
    _, past = model.run(spectra, model.initial_past(1))
    np.testing.assert_allclose(model.run(spectra, past)[0], 0.5)
    # Another model beside it, or none, is refused.
    identity_place(tmp_path, gain=2.0)
    assert "belongs to another model, named 'identity'" in refusal(place, tmp_path)
    (tmp_path / BASE_NAME).unlink()
    assert "belongs to another model, named 'identity'" in refusal(place, tmp_path)


def test_another_model_is_refused(content):
    with pytest.raises(ModelError, match="it belongs to another model than default"):
        read_adapters(content, "it").applied(MODELS["default"].read_bytes(), "it")


@pytest.mark.parametrize("kept", [0, 4, 8, 9, 100, 0.5, 0.9, 0.999])
def test_cut_file_is_refused(content, tmp_path, kept):
    cut = content[: kept if isinstance(kept, int) else int(kept * len(content))]
    assert "is not the file of a place" in refusal(cut, tmp_path)


@pytest.mark.parametrize("foreign", [b"x" * 5000, bytes(5000), b"\xff" * 5000, b"RIFF" + bytes(5000)])
def test_foreign_file_is_refused(foreign, tmp_path):
    assert "is not the file of a place" in refusal(foreign, tmp_path)


def test_an_altered_value_or_more_of_them_are_noticed(content, tmp_path):
    assert "its hash does not fit" in refusal(content[:-1] + bytes([content[-1] ^ 1]), tmp_path)
    assert "its hash does not fit" in refusal(content + b"\0\0", tmp_path)
    assert "more than 1024 KiB" in refusal(content + bytes(2**20), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 60_000.0])
def test_values_that_are_no_numbers_are_refused(base, tmp_path, value):
    bias = np.zeros(64, np.float32)
    bias[3] = value
    place = write_adapters({BIAS: bias}, base=base, training_data=(), command="")
    assert "no numbers, or beyond 1000" in refusal(place, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {BIAS: np.zeros(63, np.float32)},
        {"model.other.bias": np.zeros(64, np.float32)},
        {MATRIX: (np.zeros((64, 2), np.float32), np.zeros((2, 63), np.float32))},
        # A product of 2.5e9 values from a small file.
        {MATRIX: (np.zeros((50_000, 1), np.float32), np.zeros((1, 50_000), np.float32))},
    ],
)
def test_wrong_shapes_are_refused(base, tmp_path, wrong):
    place = write_adapters(wrong, base=base, training_data=(), command="")
    assert "does not have, or has in another shape" in refusal(place, tmp_path)


def test_factors_that_do_not_fit_each_other_are_refused(base, tmp_path):
    for left, right in (((64, 2), (3, 64)), ((64,), (1, 64)), ((2, 64, 2), (2, 64))):
        factors = np.zeros(left, np.float32), np.zeros(right, np.float32)
        place = write_adapters({MATRIX: factors}, base=base, training_data=(), command="")
        assert "factors that do not fit" in refusal(place, tmp_path)
    place = altered(
        write_adapters(changes(), base=base, training_data=(), command=""),
        lambda header: header.update({f"{MATRIX}.up": header.pop(f"{MATRIX}.right")}),
    )
    assert "factors that do not fit" in refusal(place, tmp_path)


def said(**values):
    """A change of the metadata in a header."""

    def change(header):
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        header["__metadata__"][METADATA_KEY] = json.dumps({**metadata, **values})

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda header: header.pop("__metadata__"), "no metadata"),
        (lambda header: header["__metadata__"].clear(), "no metadata"),
        (said(format_version=2), "another format version"),
        (said(more=1), "missing or unknown keys"),
        (said(base_sha256="0" * 63), "64 hexadecimal digits"),
        (said(base_sha256="G" * 64), "64 hexadecimal digits"),
        (said(base_name=7), "no text"),
        (said(command="x" * 10_001), "no text"),
        (said(training_data="all"), "a list"),
        (said(training_data=[1]), "no text"),
        (lambda header: header[BIAS].update(dtype="F32"), "not of half precision"),
        (lambda header: header[BIAS].update(shape=[-64]), "without a shape"),
        (lambda header: header[BIAS].update(shape=[2**19] * 8), "lie elsewhere"),
        (lambda header: header[BIAS].update(shape=[64.0]), "without a shape"),
        (lambda header: header[BIAS].update(data_offsets=[0, 2**40]), "lie elsewhere"),
        (lambda header: header[f"{MATRIX}.left"].update(data_offsets=[0, 256]), "lie elsewhere"),
        (lambda header: header.update({BIAS: 1}), "without a shape"),
        (lambda header: header.popitem(), "more values"),
    ],
)
def test_headers_that_are_not_ours_are_refused(content, tmp_path, change, found):
    assert found in refusal(altered(content, change), tmp_path)


def test_deep_headers_are_refused(tmp_path):
    text = b'{"a":' * 5000 + b"1" + b"}" * 5000
    assert "nested" in refusal(len(text).to_bytes(8, "little") + text, tmp_path)


def test_products_know_their_size():
    assert LowRank(np.zeros((3, 5, 2), np.float16), np.zeros((3, 2, 7), np.float16)).size == 3 * 5 * 7


def test_constants_are_found_as_another_reader_finds_them(base):
    payload = bytearray(unsealed(base))
    found = float_constants(payload)
    assert len(found) > 80
    listed = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(base).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.raw_data
    }
    assert found.keys() == listed.keys()
    for name, values in listed.items():
        np.testing.assert_array_equal(found[name], values)
    found[BIAS][:] = 7.0  # where they stand
    changed = {tensor.name: tensor for tensor in onnx.load_from_string(bytes(payload)).graph.initializer}
    assert (numpy_helper.to_array(changed[BIAS]) == 7.0).all()


def test_a_property_takes_the_place_of_one_with_its_key(base):
    changed = onnx.load_from_string(with_property(unsealed(base), METADATA_KEY, "é" * 200))
    original = onnx.load_from_string(base)
    assert [(entry.key, entry.value) for entry in changed.metadata_props] == [(METADATA_KEY, "é" * 200)]
    assert changed.graph == original.graph
