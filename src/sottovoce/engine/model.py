"""One exported file: an ONNX graph and what one must know to use it."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.graph import read_properties
from sottovoce.errors import ModelError
from sottovoce.paths import is_folder
from sottovoce.signal.stft import MultiResolutionSTFT
from sottovoce.weights import MODELS

FORMAT_VERSION = 2
METADATA_KEY = "sottovoce"
# A metadata property of a serialised ONNX model: field 14 of ModelProto, with a key of 16 and a value of 64 bytes.
# protobuf joins repeated fields wherever they stand, so this tail keeps the file a valid ONNX model.
_TAIL_HEAD = b"\x72\x54\x0a\x10sottovoce_sha256\x12\x40"
_TAIL_LENGTH = len(_TAIL_HEAD) + 64

# Six times the largest network of the settings that come with the package. More is not even read.
_MAX_FILE_BYTES = 2**29
_MAX_JSON_CHARACTERS = 2**20
_MAX_JSON_DEPTH = 16
# Together 64 MiB of state for each channel of a recording.
_MAX_PAST_VALUES = 2**24
_MAX_QUOTED = 80
# Spectra of samples that a stream lets in, up to ±1e9, stay below this, and squares of it are finite in float32.
_MAX_AMPLITUDE = np.float32(1e16)

Float32Array = NDArray[np.float32]


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:  # True is an int as well
            raise ValueError(f"{_found(value)}, expected a whole number from {low} to {high}")
        return value

    return check


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 10_000:
        raise ValueError(f"{_found(value)}, expected text of 10,000 characters at most")
    return value


def _several(item: Callable[[object], Any], low: int, high: int) -> Callable[[object], tuple[Any, ...]]:
    def check(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not low <= len(value) <= high:
            count = str(low) if low == high else f"{low} to {high}"
            raise ValueError(f"{_found(value)}, expected a list of {count}")
        return tuple(map(item, value))

    return check


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_found(value)}, expected a mapping")
    return value


def _found(value: object) -> str:
    text = repr(value)
    return f"found {text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + '...'}"


_CHECKS: dict[str, Callable[[object], Any]] = {
    "name": _text,
    "sample_rate": _whole(8000, 48000),
    "windows": _several(_whole(2, 2**14), 1, 8),
    "synthesis_window": _whole(2, 2**14),
    "hop": _whole(1, 2**14),
    "delay_frames": _whole(0, 1000),
    "past_shapes": _several(_several(_whole(1, 2**20), 2, 2), 0, 1000),
    "parameters": _whole(0, 2**40),
    "multiply_adds_per_second": _whole(0, 2**60),
    "licence": _text,
    "training_data": _several(_text, 0, 1000),
    "command": _text,
    "settings": _mapping,
    "format_version": _whole(FORMAT_VERSION, FORMAT_VERSION),
}
"""Gives the value of each key of the metadata from its JSON, or raises a ValueError."""


@dataclass(frozen=True)
class ModelMetadata:
    """What the engine, and a reader, must know about an exported network.

    A dataclass with a table of checks: a validation library would cost a tenth of a second at every start.

    Attributes:
        name: Name of the settings.
        sample_rate: Rate at which the network works, in Hz, 8000 to 48000.
        windows: Window lengths in samples, longest first.
        synthesis_window: Length of the synthesis window in samples.
        hop: Hop in samples.
        delay_frames: Frames by which the output lags behind the input.
        past_shapes: Channels and frames of every layer's past.
        parameters: Number of trained values in the exported network.
        multiply_adds_per_second: Multiply-adds of the network per second of audio.
        licence: Licence of the weights.
        training_data: The corpora of the training, one sentence each.
        command: The command which trained the network.
        settings: The complete settings of the training, seed included.
        format_version: Version of this format.
    """

    name: str
    sample_rate: int
    windows: tuple[int, ...]
    synthesis_window: int
    hop: int
    delay_frames: int
    past_shapes: tuple[tuple[int, int], ...]
    parameters: int
    multiply_adds_per_second: int
    licence: str
    training_data: tuple[str, ...]
    command: str
    settings: dict[str, Any]
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read and check.

        Args:
            text: What `to_json` wrote.

        Returns:
            The metadata.

        Raises:
            ValueError: The text is no JSON, too long or too deep, or of another format version; a key is missing or
                unknown; or a value has another type or is out of its range.
        """
        content = parse_json(text)
        found = content.get("format_version") if isinstance(content, dict) else None
        if not isinstance(content, dict) or found != FORMAT_VERSION:
            raise ValueError(f"format version: {_found(found)}, expected {FORMAT_VERSION}")
        names = {field.name for field in fields(cls)}
        if content.keys() != names:
            different = sorted(content.keys() ^ names)
            raise ValueError(f"found missing or unknown keys: {', '.join(different)[:_MAX_QUOTED]}")
        for key, check in _CHECKS.items():
            try:
                content[key] = check(content[key])
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
        metadata = cls(**content)
        if sum(channels * frames for channels, frames in metadata.past_shapes) > _MAX_PAST_VALUES:
            raise ValueError(f"past_shapes: found more than {_MAX_PAST_VALUES:,} values of state")
        # Refuses windows and hops that do not go together.
        MultiResolutionSTFT(metadata.windows, metadata.hop, metadata.synthesis_window)
        return metadata

    def to_json(self) -> str:
        """Write as JSON."""
        return json.dumps(asdict(self))

    @property
    def latency_seconds(self) -> float:
        """Algorithmic latency: the synthesis window and the network's delay."""
        return (self.synthesis_window + self.delay_frames * self.hop) / self.sample_rate


def seal(payload: bytes) -> bytes:
    """Append the hash by which a cut or altered file is noticed.

    Args:
        payload: A serialised ONNX model.

    Returns:
        The bytes of a model file; still a valid ONNX model.
    """
    return payload + _TAIL_HEAD + hashlib.sha256(payload).hexdigest().encode()


def parse_json(text: str) -> object:
    """Read JSON from anybody.

    Args:
        text: JSON.

    Returns:
        Its value, of bounded size and depth.

    Raises:
        ValueError: The text is no JSON, too long or too deep, or holds numbers that JSON does not have.
    """
    if len(text) > _MAX_JSON_CHARACTERS:
        raise ValueError(f"found {len(text):,} characters of JSON, expected {_MAX_JSON_CHARACTERS:,} at most")

    def refused(name: str) -> object:
        raise ValueError(f"found {name}, which is no number of JSON")

    try:
        content: object = json.loads(text, parse_constant=refused)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [content]
    for _ in range(_MAX_JSON_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
    if level:
        raise ValueError(_TOO_DEEP)
    return content


_TOO_DEEP = f"found JSON that is nested more than {_MAX_JSON_DEPTH} levels deep"


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def read_metadata(path: Path) -> ModelMetadata:
    """What an exported model says of itself, without loading it to run.

    Args:
        path: A model file.

    Returns:
        Its metadata.

    Raises:
        ModelError: As for `Model`, but for what only the runtime finds.
    """
    return _checked(_read(path), str(path))


def _checked(content: bytes, origin: str) -> ModelMetadata:
    """The metadata of a file in which nothing but an exported network was found."""
    if not _is_sealed(content):
        raise ModelError(
            f"{origin} is not a model exported by sottovoce, or it was cut or altered (its hash does not fit): "
            "copy it again, or export it again with `sottovoce train`"
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


def _read(path: Path) -> bytes:
    """The bytes of a file that is not larger than any model."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(
            f"found no readable model file at {path} ({reason}): give the path of a model.onnx written by "
            "`sottovoce train`, or the name of a bundled model: " + ", ".join(MODELS)
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise ModelError(f"{path} has more than {_MAX_FILE_BYTES // 2**20} MiB, which no model has: give another file")
    return content


def _is_sealed(content: bytes) -> bool:
    payload, tail = content[:-_TAIL_LENGTH], content[-_TAIL_LENGTH:]
    return tail == _TAIL_HEAD + hashlib.sha256(payload).hexdigest().encode()


class _Node(NamedTuple):
    """An input or output of a network, as the runtime describes it."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class Model:
    """An exported network, checked and ready to run.

    Args:
        content: The bytes of a model file.
        origin: Where the bytes come from, for messages.

    Raises:
        ModelError: The file is not ours, was cut or altered, has another format version, holds what no exported network
            has, or a network that cannot be run or does not fit the file's own metadata.
    """

    def __init__(self, content: bytes, origin: str) -> None:
        import onnxruntime

        self.metadata = _checked(content, origin)
        self._origin = origin
        self._content = content
        options = onnxruntime.SessionOptions()
        # One thread without spinning: frames are small, threads across files and streams use the cores better.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # The bytes were checked as those of an ONNX model, and are to be read as nothing else.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # What it would write of an error is in the exception as well.
        options.log_severity_level = 4
        try:
            # Without a fallback, which would try the same again and print that it does.
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            inputs, outputs = (
                [_Node(node.name, node.type, tuple(node.shape)) for node in nodes]
                for nodes in (self._session.get_inputs(), self._session.get_outputs())
            )
        except Exception as error:  # the bindings raise classes of their own that have no common base
            raise ModelError(
                f"{origin} holds no network that can be run ({_first_words(error)}): export it again"
            ) from error
        self._check_shapes(inputs, outputs)
        self._input_names = [node.name for node in inputs]
        self._output_names = [node.name for node in outputs]

    def __reduce__(self) -> tuple[type["Model"], tuple[bytes, str]]:
        # A session cannot be pickled; its network can be loaded again.
        return Model, (self._content, self._origin)

    @classmethod
    def load(cls, path: Path | str) -> "Model":
        """Load a model file.

        Args:
            path: A file written by `sottovoce train`, `sottovoce adapt` or `sottovoce.models.export`, or the folder of
                a run, which holds it as model.onnx.

        Returns:
            The checked model.

        Raises:
            ModelError: The file is missing or cannot be used: see above.
        """
        path = Path(path)
        if is_folder(path):
            path /= "model.onnx"
            if not path.is_file():
                raise ModelError(
                    f"found no model.onnx in the folder {path.parent}: give the folder that `sottovoce train` or "
                    "`sottovoce adapt` wrote, when its run has finished, or a model file"
                )
        return cls(_read(path), str(path))

    def _check_shapes(self, inputs: list[_Node], outputs: list[_Node]) -> None:
        """Refuse a network with other inputs and outputs than its metadata describe; None stands for a free size."""
        metadata = self.metadata
        bins = [window // 2 + 1 for window in metadata.windows]
        past = [(None, *shape) for shape in metadata.past_shapes]
        for kind, nodes, first in (
            ("inputs", inputs, (None, 2, sum(bins), None)),
            ("outputs", outputs, (None, 2, bins[0], None)),
        ):
            expected = [first, *past]
            found = [tuple(size if isinstance(size, int) else None for size in node.shape) for node in nodes]
            if found != expected:
                raise ModelError(
                    f"{self._origin} has {kind} of shapes {_listed(found)}, expected {_listed(expected)} after its own "
                    "settings: export it again"
                )
            if {node.type for node in nodes} != {"tensor(float)"}:
                raise ModelError(f"{self._origin} has {kind} that are not of 32-bit floats: export it again")

    def initial_past(self, batch: int) -> list[Float32Array]:
        """State of every layer before the first frame.

        Args:
            batch: Number of independent signals.

        Returns:
            Arrays `(batch, channels, frames)` of zeros.
        """
        return [np.zeros((batch, *shape), np.float32) for shape in self.metadata.past_shapes]

    def run(self, spectra: Float32Array, past: list[Float32Array]) -> tuple[Float32Array, list[Float32Array]]:
        """Enhance some frames.

        Args:
            spectra: Mixture `(batch, 2, F, N)`, all resolutions.
            past: State `(batch, channels, frames)` of every layer.

        Returns:
            Enhanced spectrum `(batch, 2, F of the longest window, N)`, which lags by `delay_frames`, and the new state.

        Raises:
            ModelError: The network fails, or gives values that are not finite, or another number of them.
        """
        try:
            enhanced, *following = self._session.run(
                self._output_names, dict(zip(self._input_names, [spectra, *past], strict=True))
            )
        except Exception as error:  # the bindings raise classes of their own that have no common base
            raise ModelError(
                f"the network of {self._origin} failed ({_first_words(error)}): export it again, or take another model"
            ) from error
        bins = self.metadata.windows[0] // 2 + 1
        if enhanced.shape != (len(spectra), 2, bins, spectra.shape[-1]):
            raise ModelError(
                f"the network of {self._origin} gave spectra of another shape than it got: export it again"
            )
        # Every comparison with NaN is false.
        if not np.abs(enhanced).max(initial=0) <= _MAX_AMPLITUDE:
            raise ModelError(
                f"the network of {self._origin} gave values that are no numbers, infinite or beyond any sound: its "
                "weights are damaged or its training failed; take another model, or train it again"
            )
        return enhanced, following


def _first_words(error: Exception) -> str:
    """What the runtime says, on one line and not for ever."""
    text = " ".join(str(error).split())
    return text if len(text) <= 2 * _MAX_QUOTED else text[: 2 * _MAX_QUOTED] + "..."


def _listed(shapes: list[tuple[int | None, ...]]) -> str:
    few = 4
    return str(shapes) if len(shapes) <= few else f"{str(shapes[:few])[:-1]} and {len(shapes) - few} more]"
