"""The file of a place: what is added to the weights of a model there, for those who have the model.

A file in the format of safetensors, read here with bounds and without its library. What it adds is put into the model's
bytes when it is loaded, so that a network with adapters is one without: it costs nothing and needs no code of its own.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.graph import float_constants, with_property
from sottovoce.engine.metadata import parse_json
from sottovoce.engine.model_file import METADATA_KEY, checked_metadata, seal, unsealed
from sottovoce.errors import ModelError

PLACE_SUFFIX = ".place"
"""Ending of the files of places."""

BASE_NAME = "base.onnx"
"""Name of the model beside the file of a place, where it belongs to none of the bundled ones."""

ADAPTED_SUFFIX = "_adapted"
"""The name of a model with adapters ends so, once, however often it was adapted."""

FORMAT_VERSION = 1

# Ten times what adapters of the bundled models take.
_MAX_FILE_BYTES = 2**20
_MAX_DIMENSIONS = 8
_MAX_TEXTS, _MAX_CHARACTERS = 1000, 10_000
# Values of a half-precision float that no training comes near.
_MAX_VALUE = 1e3

# How the names of the two factors of a product end.
_LEFT, _RIGHT = ".left", ".right"

Float16Array = NDArray[np.float16]


class LowRank(NamedTuple):
    """A matrix, or several of them, as a product: `(..., rows, rank)` times `(..., rank, columns)`."""

    left: Float16Array
    right: Float16Array

    @property
    def size(self) -> int:
        """Values of the product."""
        return int(math.prod(self.left.shape[:-1]) * self.right.shape[-1])


@dataclass(frozen=True)
class AdapterMetadata:
    """What a file of a place says of itself.

    Attributes:
        base_name: Name of the model that it belongs to.
        base_sha256: Hash of that model's file.
        training_data: What it was trained with, beside the model's own corpora, one sentence each.
        command: The command which made it.
        values_sha256: Hash of its values.
        format_version: Version of this format.
    """

    base_name: str
    base_sha256: str
    training_data: tuple[str, ...]
    command: str
    values_sha256: str
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, text: str) -> "AdapterMetadata":
        """Read and check.

        Args:
            text: JSON.

        Returns:
            The metadata.

        Raises:
            ValueError: The text is no JSON, or a key is missing, unknown, of another type or out of its range.
        """
        content = parse_json(text)
        if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"found another format version than {FORMAT_VERSION}")
        if content.keys() != {field.name for field in fields(cls)}:
            raise ValueError("found missing or unknown keys")
        sentences = content["training_data"]
        if not isinstance(sentences, list) or len(sentences) > _MAX_TEXTS:
            raise ValueError(f"training_data: expected a list of {_MAX_TEXTS} sentences at most")
        for value in (content["base_name"], content["command"], *sentences):
            if not isinstance(value, str) or len(value) > _MAX_CHARACTERS:
                raise ValueError(f"found a value that is no text of {_MAX_CHARACTERS:,} characters at most")
        for key in ("base_sha256", "values_sha256"):
            value = content[key]
            if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
                raise ValueError(f"{key}: expected 64 hexadecimal digits")
        return cls(**{**content, "training_data": tuple(sentences)})


@dataclass(frozen=True)
class Adapters:
    """What is added to the weights of one model.

    Attributes:
        metadata: Which model, and where the values come from.
        changes: Values to add by the name of the constant in the model's graph, as they are or as a product.
    """

    metadata: AdapterMetadata
    changes: dict[str, Float16Array | LowRank]

    def applied(self, base: bytes, origin: str) -> bytes:
        """Add the values to a model.

        Args:
            base: The bytes of the model's file.
            origin: Where the adapters come from, for messages.

        Returns:
            The bytes of the file of the adapted model.

        Raises:
            ModelError: It is another model, or has no such constants.
        """
        metadata, payload = checked_metadata(base, f"the model of {origin}"), bytearray(unsealed(base))
        if hashlib.sha256(payload).hexdigest() != self.metadata.base_sha256:
            raise ModelError(f"{origin} belongs to another model than {metadata.name}: give that model, or adapt again")
        if not self.changes:
            return base
        constants = float_constants(payload)
        for name, change in self.changes.items():
            constant = constants.get(name)
            # The product is not made before its size is known to be right: it could be of any size.
            if constant is None or change.size != constant.size:
                raise ModelError(
                    f"{origin} changes weights that its model {self.metadata.base_name} does not have, or has in "
                    "another shape: adapt again"
                )
            if isinstance(change, LowRank):
                added = change.left.astype(np.float32) @ change.right.astype(np.float32)
            else:
                added = change.astype(np.float32)
            constant += added.reshape(constant.shape)
        said = replace(
            metadata,
            name=metadata.name.removesuffix(ADAPTED_SUFFIX) + ADAPTED_SUFFIX,
            training_data=(*metadata.training_data, *self.metadata.training_data),
            command=self.metadata.command,
        )
        return seal(with_property(bytes(payload), METADATA_KEY, said.to_json()))


def write_adapters(
    changes: Mapping[str, NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]],
    *,
    base: bytes,
    training_data: tuple[str, ...],
    command: str,
) -> bytes:
    """Make the file of a place.

    Args:
        changes: Values to add by the name of the constant, or the two factors of these; they are rounded to half
            precision.
        base: The bytes of the file of the model that they belong to.
        training_data: What they were trained with, one sentence each.
        command: The command which made them.

    Returns:
        The bytes of the file.
    """
    tensors: dict[str, Float16Array] = {}
    for name, change in changes.items():
        if isinstance(change, tuple):
            tensors |= {f"{name}{_LEFT}": change[0].astype("<f2"), f"{name}{_RIGHT}": change[1].astype("<f2")}
        else:
            tensors[name] = change.astype("<f2")
    values, entries = b"", {}
    for name, tensor in tensors.items():
        start, values = len(values), values + tensor.tobytes()
        entries[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [start, len(values)]}
    metadata = AdapterMetadata(
        base_name=checked_metadata(base, "the model").name,
        base_sha256=hashlib.sha256(unsealed(base)).hexdigest(),
        training_data=training_data,
        command=command,
        values_sha256=hashlib.sha256(values).hexdigest(),
    )
    header = json.dumps({"__metadata__": {METADATA_KEY: json.dumps(asdict(metadata))}, **entries}).encode()
    header += b" " * (-len(header) % 8)  # safetensors begins its values at a multiple of 8
    return len(header).to_bytes(8, "little") + header + values


def read_adapters(content: bytes, origin: str) -> Adapters:
    """Read the file of a place, of which nothing is trusted.

    Args:
        content: The bytes of the file.
        origin: Where they come from, for messages.

    Returns:
        The adapters.

    Raises:
        ModelError: The file is foreign, cut or altered, or holds what no adapters hold.
    """
    try:
        metadata, tensors = _parsed(content)
        return Adapters(metadata, _changes(tensors))
    except ValueError as error:
        raise ModelError(
            f"{origin} is not the file of a place that this version of sottovoce can use, or it was cut or altered "
            f"({error}): copy it again, or adapt again"
        ) from error


def _parsed(content: bytes) -> tuple[AdapterMetadata, dict[str, Float16Array]]:
    """Metadata and tensors of a file in the format of safetensors, all of half precision."""
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"found more than {_MAX_FILE_BYTES // 1024} KiB")
    begin = 8 + int.from_bytes(content[:8], "little")
    if len(content) < begin:
        raise ValueError("found no header, or an end within it")
    values = content[begin:]
    try:
        header = parse_json(content[8:begin].decode())
    except UnicodeDecodeError:
        raise ValueError("found a header that is no text") from None
    said = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(said, dict) or not isinstance(said.get(METADATA_KEY), str):
        raise ValueError("found no metadata")
    metadata = AdapterMetadata.from_json(said[METADATA_KEY])
    if hashlib.sha256(values).hexdigest() != metadata.values_sha256:
        raise ValueError("its hash does not fit")
    tensors, end = {}, 0
    for name, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS or not all(map(_is_size, shape)):
            raise ValueError("found values without a shape")
        start, end = end, end + 2 * math.prod(shape)
        # Nothing overlaps and nothing is left over: values of a file are never larger than the file.
        if entry != {"dtype": "F16", "shape": shape, "data_offsets": [start, end]} or end > len(values):
            raise ValueError("found values that are not of half precision, or lie elsewhere than expected")
        tensor = np.frombuffer(values, "<f2", math.prod(shape), start).reshape(shape)
        # Every comparison with NaN is false.
        if not np.abs(tensor).max(initial=0) <= _MAX_VALUE:
            raise ValueError(f"found values that are no numbers, or beyond {_MAX_VALUE:g}")
        tensors[name] = tensor
    if end != len(values):
        raise ValueError("found more values than its header lists")
    return metadata, tensors


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value <= _MAX_FILE_BYTES


def _changes(tensors: dict[str, Float16Array]) -> dict[str, Float16Array | LowRank]:
    """Put the factors of products together."""
    changes: dict[str, Float16Array | LowRank] = {}
    for name in dict.fromkeys(name.removesuffix(_LEFT).removesuffix(_RIGHT) for name in tensors):
        left, right, values = (tensors.get(f"{name}{ending}") for ending in (_LEFT, _RIGHT, ""))
        if values is not None and left is None and right is None:
            changes[name] = values
            continue
        if left is None or right is None or left.ndim < 2 or (*left.shape[:-2], left.shape[-1]) != right.shape[:-1]:
            raise ValueError("found factors that do not fit each other")
        changes[name] = LowRank(left, right)
    return changes
