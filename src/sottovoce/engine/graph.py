"""What an ONNX file may hold, checked on its bytes before the runtime parses them.

The hash of a model file shows damage, not intent: anybody can compute it. So the bytes are walked with a table of the
messages, fields and operators that an exported network is made of. What the table does not list is refused: data in
other files, sub-graphs and with them loops and branches, functions, and operators of other domains.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_OPERATORS = frozenset(
    # Of the ONNX standard: arithmetic, layers and shapes, of which a network of frames may be made.
    b"""
    Abs Add And AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvInteger ConvTranspose Cos CumSum
    DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather Gelu Gemm
    GlobalAveragePool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization
    LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool Mean Min Mish
    Mul Neg Not Or PRelu Pad Pow QuantizeLinear RNN Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum
    ReduceSumSquare Relu Reshape Round Selu SequenceAt Shape Sigmoid Sign Sin Slice Softmax Softplus Softsign Split
    SplitToSequence Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Where Xor
    """.split()
)
# The bundled networks have 6,000 fields. More than this would take seconds, and memory, to walk.
_MAX_FIELDS = 200_000
# What messages quote of a name in a file.
_MAX_QUOTED = 40

_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_MAX_VARINT_BYTES = 10

_Values = dict[int, list[Any]]
"""Values of a message by field number: whole numbers, bytes, and such values of messages in it."""


class _Message:
    """A kind of protobuf message and what it may hold.

    Args:
        name: What it is, for the message of an error.
        plain: Wire types of the fields that hold numbers, text or bytes, by field number.
        nested: Kinds of the fields that hold messages.
        check: Raises a ValueError if the values, of a message of so many bytes, are not allowed.
        refused: What fields are that ONNX knows and no exported network has.

    Attributes:
        parts: Kinds of all fields by the key with which they begin, field number and wire type in one; None for those
            that hold no message.
    """

    def __init__(
        self,
        name: str,
        plain: dict[int, tuple[int, ...]],
        nested: "dict[int, _Message] | None" = None,
        check: Callable[[_Values, int], None] | None = None,
        refused: dict[int, str] | None = None,
    ) -> None:
        self.name = name
        self.check = check
        self.refused = refused or {}
        self.parts: dict[int, _Message | None] = {
            number << 3 | wire: None for number, wires in plain.items() for wire in wires
        }
        self.parts |= {number << 3 | _BYTES: kind for number, kind in (nested or {}).items()}


def read_properties(content: bytes) -> dict[str, str]:
    """Check that a file holds a network of frames and nothing else, and read its metadata properties.

    Args:
        content: A serialised ONNX model.

    Returns:
        The properties by their keys.

    Raises:
        ValueError: The bytes are no ONNX model, or hold what no exported network has.
    """
    values = _Walk(content).values(0, len(content), _MODEL)
    entries = [(entry.get(1, [b""])[-1], entry.get(2, [b""])[-1]) for entry in values.get(14, [])]
    try:
        return {key.decode(): value.decode() for key, value in entries}
    except UnicodeDecodeError:
        raise ValueError("has metadata that are no text") from None


def float_constants(content: bytearray) -> dict[str, NDArray[np.float32]]:
    """Find the weights of a network, to change them where they stand.

    Args:
        content: A serialised ONNX model that `read_properties` has accepted.

    Returns:
        The constants of 32-bit floats that are stored as bytes, as weights are, by their names: arrays in the memory of
        the content.
    """
    constants, memory = {}, memoryview(content)
    for graph in _fields(content, 0, len(content)):
        if graph.number != _GRAPH_FIELD:
            continue
        for field in _fields(content, graph.start, graph.end):
            if field.number != _CONSTANT_FIELD:
                continue
            values = _Walk(content).values(field.start, field.end, _TENSOR)
            raw = [part for part in _fields(content, field.start, field.end) if part.number == _RAW_FIELD]
            if values.get(2) == [_FLOAT] and raw and values.get(8):
                array = np.frombuffer(memory[raw[-1].start : raw[-1].end], "<f4")
                constants[values[8][-1].decode()] = array.reshape(_sizes(values))
    return constants


def with_property(content: bytes, key: str, value: str) -> bytes:
    """Put a metadata property into a model, in place of one with the same key.

    Args:
        content: A serialised ONNX model that `read_properties` has accepted.
        key: The key.
        value: The value.

    Returns:
        The model with the property.
    """
    kept = []
    for field in _fields(content, 0, len(content)):
        is_entry = field.number == _ENTRY_FIELD
        if not is_entry or _Walk(content).values(field.start, field.end, _ENTRY).get(1) != [key.encode()]:
            kept.append(content[field.begin : field.end])
    entry = b"".join(_of_bytes(number, text.encode()) for number, text in ((1, key), (2, value)))
    return b"".join(kept) + _of_bytes(_ENTRY_FIELD, entry)


class Operator(NamedTuple):
    """What an operator of a graph is, and what it reads and gives, by name."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def operators(content: bytes) -> list[Operator]:
    """The operators of a network, in the order in which they run.

    Args:
        content: A serialised ONNX model that `read_properties` has accepted.

    Returns:
        What each of them is, reads and gives.
    """
    found = []
    for graph in _fields(content, 0, len(content)):
        for field in _fields(content, graph.start, graph.end) if graph.number == _GRAPH_FIELD else ():
            if field.number == _NODE_FIELD:
                names: dict[int, list[str]] = {_READ_FIELD: [], _GIVEN_FIELD: [], _KIND_FIELD: []}
                for part in _fields(content, field.start, field.end):
                    if part.number in names:
                        names[part.number].append(content[part.start : part.end].decode())
                kind = "".join(names[_KIND_FIELD])
                found.append(Operator(kind, tuple(names[_READ_FIELD]), tuple(names[_GIVEN_FIELD])))
    return found


def with_outputs(content: bytes, names: Sequence[str]) -> bytes:
    """Let a network give what some of its operators give, behind its own outputs.

    protobuf joins messages and repeated fields wherever they stand, so the names are appended.

    Args:
        content: A serialised ONNX model that `read_properties` has accepted.
        names: What operators give, by `Operator.outputs`.

    Returns:
        The model with these outputs, whose types and shapes the runtime infers.
    """
    outputs = b"".join(_of_bytes(_OUTPUT_FIELD, _of_bytes(_NAME_FIELD, name.encode())) for name in names)
    return content + _of_bytes(_GRAPH_FIELD, outputs)


class _Field(NamedTuple):
    """Where a field stands: its number, where its key begins, its value begins and it ends."""

    number: int
    begin: int
    start: int
    end: int


def _fields(content: bytes | bytearray, position: int, end: int) -> Iterator[_Field]:
    """The fields of a message that has been walked through before."""
    while position < end:
        begin = position
        key, position = _varint(content, position)
        if key & 7 == _VARINT:
            start, position = position, _varint(content, position)[1]
        else:
            length, start = _varint(content, position) if key & 7 == _BYTES else (4, position)
            position = start + length
        yield _Field(key >> 3, begin, start, position)


def _of_bytes(number: int, value: bytes) -> bytes:
    """A field that holds bytes."""
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*content, number))


class _Walk:
    """A way through the messages of a file.

    Args:
        content: The file.
    """

    def __init__(self, content: bytes | bytearray) -> None:
        self._content = content
        self._fields_left = _MAX_FIELDS

    def values(self, position: int, end: int, kind: _Message) -> _Values:
        """Values of the message in some bytes, all of which are allowed; none is nested deeper than in `_MODEL`."""
        content, size, values = self._content, end - position, _Values()
        while position < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError(f"has more than {_MAX_FIELDS:,} fields")
            key, position = _varint(content, position)
            number, wire = key >> 3, key & 7
            if key not in kind.parts:
                raise ValueError(f"has {kind.refused.get(number, f'the unknown field {number}')} in its {kind.name}")
            part = kind.parts[key]
            value: Any
            if wire == _VARINT:
                value, position = _varint(content, position)
            else:
                length, position = _varint(content, position) if wire == _BYTES else (4, position)
                start, position = position, position + length
                if position > end:
                    raise ValueError("ends within a field")
                value = content[start:position] if part is None else self.values(start, position, part)
            values.setdefault(number, []).append(value)
        if position > end:
            raise ValueError("ends within a number")
        if kind.check is not None:
            kind.check(values, size)
        return values


def _varint(content: bytes | bytearray, position: int) -> tuple[int, int]:
    """A number of variable length, and the position behind it."""
    if position < len(content) and content[position] < 0x80:  # nearly all are of one byte
        return content[position], position + 1
    number = shift = 0
    for byte in content[position : position + _MAX_VARINT_BYTES]:
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError("ends within a number, or has one that is too long")


def _quoted(text: bytes) -> str:
    return repr(text[:_MAX_QUOTED].decode(errors="replace"))


def _check_node(values: _Values, _size: int) -> None:
    for name in values.get(4, []):
        if name not in _OPERATORS:
            raise ValueError(f"has the operator {_quoted(name)}, which no network of frames needs")
    _check_domain(values, 7)


def _check_opset(values: _Values, _size: int) -> None:
    _check_domain(values, 1)


def _check_domain(values: _Values, number: int) -> None:
    for domain in values.get(number, []):
        if domain not in (b"", b"ai.onnx"):
            raise ValueError(f"has operators of the domain {_quoted(domain)}, expected those of the ONNX standard")


def _sizes(values: _Values) -> list[int]:
    """Sizes of the axes of a tensor, one by one or packed."""
    sizes: list[int] = []
    for dims in values.get(1, []):
        if isinstance(dims, int):
            sizes.append(dims)
            continue
        position = 0
        while position < len(dims):
            one, position = _varint(dims, position)
            sizes.append(one)
    return sizes


def _check_tensor(values: _Values, size: int) -> None:
    sizes = _sizes(values)
    # No number takes less than a byte, and a negative size is read as one above 2 ** 63.
    if max(sizes, default=0) > size or prod(sizes) > size:
        raise ValueError(f"has constants of the shape {sizes[:8]} in {size} bytes")
    if any(values.get(14, [])):
        raise ValueError(_ELSEWHERE)


_ELSEWHERE = "has constants whose values are in another file"


def _words(*numbers: int) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(numbers, (_BYTES,))


def _numbers(*numbers: int) -> dict[int, tuple[int, ...]]:
    """Whole numbers, one by one or packed."""
    return dict.fromkeys(numbers, (_VARINT, _BYTES))


# The field numbers are those of onnx.proto, and the type is that of 32-bit floats.
_GRAPH_FIELD, _CONSTANT_FIELD, _RAW_FIELD, _ENTRY_FIELD, _FLOAT = 7, 5, 9, 14, 1
_NODE_FIELD, _READ_FIELD, _GIVEN_FIELD, _KIND_FIELD, _OUTPUT_FIELD, _NAME_FIELD = 1, 1, 2, 4, 12, 1
_ENTRY = _Message("metadata", _words(1, 2))
_TENSOR = _Message(
    "constants",
    _numbers(1, 5, 7, 11) | _words(4, 8, 9, 10, 12) | {2: (_VARINT,), 14: (_VARINT,)},
    {16: _ENTRY},
    _check_tensor,
    {6: "text", 13: "the name of another file"},
)
_ATTRIBUTE = _Message(
    "operators",
    _words(1, 4, 9, 13) | {2: (_FIXED32,), 3: (_VARINT,), 7: (_FIXED32, _BYTES), 20: (_VARINT,)} | _numbers(8),
    {5: _TENSOR},
    refused={6: "a sub-graph", 10: "a list of constants", 11: "sub-graphs", 21: "a reference to an attribute"},
)
_NODE = _Message("operators", _words(1, 2, 3, 4, 6, 7, 8), {5: _ATTRIBUTE, 9: _ENTRY}, _check_node)
_GRAPH = _Message(
    "graph",
    # Types of inputs, outputs and results (11 to 13) hold nothing that acts; `Model` checks what the runtime reads.
    _words(2, 10, 11, 12, 13),
    {1: _NODE, 5: _TENSOR, 16: _ENTRY},
    refused={14: "quantisation notes", 15: "sparse constants"},
)
_OPSET = _Message("versions", _words(1) | {2: (_VARINT,)}, check=_check_opset)
_MODEL = _Message(
    "model",
    {1: (_VARINT,), 5: (_VARINT,)} | _words(2, 3, 4, 6),
    {7: _GRAPH, 8: _OPSET, 14: _ENTRY},
    refused={20: "steps of a training", 25: "functions"},
)
