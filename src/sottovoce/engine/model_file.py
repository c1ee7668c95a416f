"""The file of an exported model: an ONNX graph, its metadata, and a hash over both."""

import hashlib
from pathlib import Path

from sottovoce.engine.graph import read_properties
from sottovoce.engine.metadata import ModelMetadata
from sottovoce.errors import ModelError
from sottovoce.weights import MODELS

METADATA_KEY = "sottovoce"
# A metadata property of a serialised ONNX model: field 14 of ModelProto, with a key of 16 and a value of 64 bytes.
# protobuf joins repeated fields wherever they stand, so this tail keeps the file a valid ONNX model.
_TAIL_HEAD = b"\x72\x54\x0a\x10sottovoce_sha256\x12\x40"
_TAIL_LENGTH = len(_TAIL_HEAD) + 64

# Six times the largest network of the settings that come with the package. More is not even read.
_MAX_FILE_BYTES = 2**29


def seal(payload: bytes) -> bytes:
    """Append the hash by which a cut or altered file is noticed.

    Args:
        payload: A serialised ONNX model.

    Returns:
        The bytes of a model file; still a valid ONNX model.
    """
    return payload + _TAIL_HEAD + hashlib.sha256(payload).hexdigest().encode()


def unsealed(content: bytes) -> bytes:
    """Take the hash off a model file, which has been checked.

    Args:
        content: The bytes of a model file.

    Returns:
        The serialised ONNX model that was sealed.
    """
    return content[:-_TAIL_LENGTH]


def sealed_hash(path: Path) -> str:
    """Read the hash at the end of a model file, unchecked: enough to tell one model from another.

    Args:
        path: A model file.

    Returns:
        The hash in hexadecimal digits; something else for another file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read(64).decode("ascii", "replace")


def read_metadata(path: Path) -> ModelMetadata:
    """Read what an exported model says of itself, without loading it to run.

    Args:
        path: A model file.

    Returns:
        Its metadata.

    Raises:
        ModelError: As for `Model`, but for what only the runtime finds.
    """
    return checked_metadata(read_content(path), str(path))


def checked_metadata(content: bytes, origin: str) -> ModelMetadata:
    """Check that a file holds an exported network and nothing else, and read its metadata.

    Args:
        content: The bytes of a model file.
        origin: Where the bytes come from, for messages.

    Returns:
        The metadata.

    Raises:
        ModelError: The bytes are not ours, were cut or altered, or hold what no exported network has, or settings that
            this version cannot use.
    """
    if not _is_sealed(content):
        raise ModelError(
            f"{origin} is not a model exported by sottovoce, or it was cut or altered (its hash does not fit): "
            "copy it again, or export it again with `sottovoce export`"
        )
    try:
        properties = read_properties(content)
    except ValueError as error:
        raise ModelError(f"{origin} {error}: it is not used, as it may be harmful; export the model again") from error
    try:
        return ModelMetadata.from_json(properties.get(METADATA_KEY, "{}"))
    except ValueError as error:
        raise ModelError(
            f"{origin} has settings that this version cannot use ({error}): update sottovoce, or export the model again"
        ) from error


def read_content(path: Path) -> bytes:
    """Read the bytes of a file that is not larger than any model.

    Args:
        path: A model file.

    Returns:
        Its bytes, unchecked.

    Raises:
        ModelError: The file cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(
            f"found no readable model file at {path} ({reason}): give the path of a model.onnx written by "
            "`sottovoce train` or `sottovoce export`, or the name of a bundled model: " + ", ".join(MODELS)
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise ModelError(f"{path} has more than {_MAX_FILE_BYTES // 2**20} MiB, which no model has: give another file")
    return content


def _is_sealed(content: bytes) -> bool:
    payload, tail = content[:-_TAIL_LENGTH], content[-_TAIL_LENGTH:]
    return tail == _TAIL_HEAD + hashlib.sha256(payload).hexdigest().encode()
