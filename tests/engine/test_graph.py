"""What a model file may hold: hostile graphs are refused on their bytes; altered bytes give a ModelError at most."""

import contextlib
import itertools
import resource

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sottovoce.engine.graph import read_properties
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY, read_metadata, seal
from sottovoce.errors import ModelError

from ..conftest import build_identity_model

TAIL = 86  # field head, key of 16 bytes, hash of 64


@pytest.fixture(scope="module")
def payload(tmp_path_factory):
    """The bytes of a small exported network without their hash."""
    path = build_identity_model(tmp_path_factory.mktemp("graph") / "model.onnx", windows=(16,), hop=4)
    return path.read_bytes()[:-TAIL]


def refusal(model):
    """Return the message with which a graph is refused, by the reader of metadata and by the engine."""
    content = seal(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        Model(content, "it")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def identity_graph():
    """A graph that would do as a branch or a body."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    return helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [value], [result])


def elsewhere():
    """A constant whose values are in another file."""
    tensor = helper.make_tensor("secret", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def add_node(model, *arguments, **attributes):
    model.graph.node.append(helper.make_node(*arguments, **attributes))


def add_function(model):
    model.functions.append(
        helper.make_function("custom", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [])
    )


def add_sparse(model):
    values, indices = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]), elsewhere()
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))


def set_operator(model):
    model.graph.node[0].op_type = "\x1b[31mEvil" + "x" * 1000


def add_training(model):
    model.training_info.add().algorithm.CopyFrom(identity_graph())


def enlarge(model):
    model.graph.initializer[0].dims[:] = [2**40, 2**20]


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("the name of another file", lambda model: model.graph.initializer.append(elsewhere())),
        ("the name of another file", lambda model: add_node(model, "Constant", [], ["c"], value=elsewhere())),
        ("sparse constants", add_sparse),
        ("unknown field 22", lambda model: add_node(model, "Constant", [], ["c"], sparse_value=_sparse())),
        ("a sub-graph", lambda model: add_node(model, "Identity", ["x"], ["y"], body=identity_graph())),
        ("sub-graphs", lambda model: add_node(model, "Identity", ["x"], ["y"], bodies=[identity_graph()])),
        ("operator 'Loop'", lambda model: add_node(model, "Loop", ["x", "y"], ["z"])),
        ("operator 'Scan'", lambda model: add_node(model, "Scan", ["x", "y"], ["z"])),
        ("operator 'If'", lambda model: add_node(model, "If", ["x"], ["z"])),
        ("operator 'RandomNormal'", lambda model: add_node(model, "RandomNormal", [], ["z"], shape=[1])),
        (r"operator '\x1b[31mEvilxxx", set_operator),
        ("domain 'evil'", lambda model: add_node(model, "Add", ["x", "y"], ["z"], domain="evil")),
        ("domain 'evil'", lambda model: model.opset_import.append(helper.make_opsetid("evil", 1))),
        ("functions", add_function),
        ("steps of a training", add_training),
        ("constants of the shape [1099511627776, 1048576]", enlarge),
    ],
)
def test_hostile_graphs_are_refused_before_the_runtime_sees_them(payload, monkeypatch, words, change):
    model = onnx.load_from_string(payload)
    change(model)

    def parse(*_):
        raise AssertionError("the runtime was given the bytes")

    monkeypatch.setattr("onnxruntime.InferenceSession", parse)
    assert words in refusal(model)


def _sparse():
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [1], [0]), [2])


def test_a_file_in_another_format_of_the_runtime_is_refused(payload):
    # With these letters at its fifth byte the runtime would take a file for one of its own format, unchecked.
    disguised = b"\x12\x10" + b"..ORTM" + b"." * 10 + payload
    assert read_properties(disguised)
    Model(seal(disguised), "it")  # as ONNX it is a whole model with a strange name of its producer


def test_more_fields_than_any_network_has_are_refused(payload):
    assert "more than 200,000 fields" in refusal(payload + b"\x08\x0a" * 200_001)


@pytest.mark.parametrize(
    ("words", "tail"),
    [
        ("ends within a field", b"\x3a\x7f"),
        ("ends within a field", b"\x3a\xff\xff\xff\xff\x7f"),
        ("ends within a number", b"\x08" + b"\xff" * 11),
        ("the unknown field 1 ", b"\x0b"),
        ("metadata that are no text", b"\x72\x06\x0a\x01\xff\x12\x01x"),
        ("the unknown field 99", b"\x9a\x06\x00"),
        ("the unknown field 7 ", b"\x38\x00"),  # the graph, as a number
    ],
)
def test_bytes_that_are_no_message_are_refused(payload, words, tail):
    assert words in refusal(payload + tail) + " "


def test_properties_are_those_that_onnx_reads(payload):
    model = onnx.load_from_string(seal(payload))
    expected = {entry.key: entry.value for entry in model.metadata_props}
    assert read_properties(seal(payload)) == expected
    assert set(expected) == {METADATA_KEY, "sottovoce_sha256"}


def change_output(model):
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 3


def fix_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def integer_input(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.INT64, [1]))


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("has inputs of shapes", fix_batch),
        ("has inputs of shapes", integer_input),
        ("has outputs of shapes", lambda model: model.graph.output.pop()),
        ("has outputs of shapes", change_output),
        ("holds no network that can be run", lambda model: model.graph.ClearField("node")),
        ("holds no network that can be run", lambda model: add_node(model, "Add", ["x"], ["y"])),
        ("holds no network that can be run", lambda model: model.ClearField("graph")),
    ],
)
def test_graphs_that_do_not_fit_are_refused(payload, words, change):
    model = onnx.load_from_string(payload)
    change(model)
    assert words in refusal(model)


def add_sum_of(model, *nodes, **constants):
    """Let the network add the sum of a result called "big", times zero, to what it gives."""
    model.graph.node.extend(nodes)
    for name, values in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nought"))
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "enhanced" else name for name in node.output]
    add_node(model, "ReduceSum", ["big"], ["sum"], keepdims=0)
    add_node(model, "Mul", ["sum", "nought"], ["nothing"])
    add_node(model, "Add", ["plain", "nothing"], ["enhanced"])


def node(operator, *inputs, to="big", **attributes):
    return helper.make_node(operator, inputs, [to], **attributes)


def doubled(first):
    """A result that is joined to itself again and again."""
    names = [first, *(f"double_{step}" for step in range(29)), "big"]
    return [node("Concat", one, one, to=two, axis=0) for one, two in itertools.pairwise(names)]


ONES, SHAPE = np.ones((2, 1), np.float32), np.array([2**16, 2**14])


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Expand", "one", "shape")], {"one": ONES[:1], "shape": SHAPE}),
        ([node("Tile", "one", "shape")], {"one": ONES[:1], "shape": SHAPE}),
        (
            [node("Mul", "shape", "two", to="larger"), node("Expand", "one", "larger")],
            {"one": ONES[:1], "shape": SHAPE, "two": np.array([2])},
        ),
        ([node("Pad", "one", "pads")], {"one": ONES[:1], "pads": np.array([2**15, 2**15, 0, 0])}),
        (
            [node("MatMul", "column", "row")],
            {"column": np.ones((2**15, 1), np.float32), "row": np.ones((1, 2**15), np.float32)},
        ),
        ([node("Einsum", "a", "a", "a", equation="i,j,k->ijk")], {"a": np.ones(2**10, np.float32)}),
        (doubled("ones"), {"ones": ONES}),
        (doubled("spectra"), {}),
    ],
    ids=["expand", "tile", "computed shape", "pad", "outer product", "einsum", "joined constants", "joined input"],
)
def test_memory_is_bounded_whatever_a_network_computes(payload, nodes, constants):
    model = onnx.load_from_string(payload)
    add_sum_of(model, *nodes, **constants)
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = Model(seal(model.SerializeToString()), "it")
    with pytest.raises(ModelError, match="takes more than 512 MiB of memory"):
        network.run(np.zeros((1, 2, 9, 1), np.float32), network.initial_past(1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 2**20  # KiB


def test_a_file_that_is_larger_than_any_model_is_not_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\0" * 2000)
    monkeypatch.setattr("sottovoce.engine.model_file._MAX_FILE_BYTES", 1000)
    with pytest.raises(ModelError, match="which no model has"):
        Model.load(path)
    with pytest.raises(ModelError, match="which no model has"):
        read_metadata(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_bytes_give_a_model_error_or_a_model(payload, data):
    content = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "delete"]))
        piece = data.draw(st.binary(min_size=1, max_size=6))
        content[place : place + (0 if kind == "insert" else len(piece))] = b"" if kind == "delete" else piece
    try:
        model = Model(seal(bytes(content)), "it")
        model.run(np.zeros((2, 2, model.metadata.windows[0] // 2 + 1, 3), np.float32), model.initial_past(2))
    except ModelError as error:
        lines = str(error).splitlines()
    else:
        lines = ["it is a model still"]
    assert len(lines) == 1


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_properties_or_a_value_error(content):
    with contextlib.suppress(ValueError):
        assert isinstance(read_properties(content), dict)


def test_lists_of_parts_are_allowed(payload):
    # Version 0.1.0 exported decoders of phases with them.
    model = onnx.load_from_string(payload)
    add_node(model, "SplitToSequence", ["enhanced"], ["parts"], axis=3)
    add_node(model, "SequenceAt", ["parts", "zero"], ["part"])
    assert read_properties(model.SerializeToString())
