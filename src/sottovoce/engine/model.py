"""One exported file: an ONNX graph and what one must know to use it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import ModelError
from sottovoce.signal.stft import MultiResolutionSTFT
from sottovoce.weights import MODELS

FORMAT_VERSION = 2
METADATA_KEY = "sottovoce"
# A metadata property of a serialised ONNX model: field 14 of ModelProto, with a key of 16 and a value of 64 bytes.
# protobuf joins repeated fields wherever they stand, so this tail keeps the file a valid ONNX model.
_TAIL_HEAD = b"\x72\x54\x0a\x10sottovoce_sha256\x12\x40"
_TAIL_LENGTH = len(_TAIL_HEAD) + 64

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class ModelMetadata:
    """What the engine, and a reader, must know about an exported network.

    A dataclass with checks of its own: a validation library would cost a tenth of a second at every start.

    Attributes:
        name: Name of the settings.
        sample_rate: Rate at which the network works, in Hz.
        windows: Window lengths in samples, longest first.
        synthesis_window: Length of the synthesis window in samples.
        hop: Frame shift in samples.
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
            ValueError: The text is of another format version, a key is missing or unknown, or a value is wrong.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
            found = content.get("format_version") if isinstance(content, dict) else None
            raise ValueError(f"found format version {found}, expected {FORMAT_VERSION}")
        names = {field.name for field in fields(cls)}
        if content.keys() != names:
            raise ValueError(f"found missing or unknown keys: {', '.join(sorted(content.keys() ^ names))}")
        content["windows"] = tuple(content["windows"])
        content["past_shapes"] = tuple((channels, frames) for channels, frames in content["past_shapes"])
        content["training_data"] = tuple(content["training_data"])
        counts = (*content["windows"], *(size for shape in content["past_shapes"] for size in shape))
        positive = (content["sample_rate"], content["synthesis_window"], content["hop"], *counts)
        if not all(isinstance(count, int) and count > 0 for count in positive) or not content["windows"]:
            raise ValueError("found rates, lengths or shapes that are not positive whole numbers")
        # Refuses windows and hops that do not go together.
        MultiResolutionSTFT(content["windows"], content["hop"], content["synthesis_window"])
        if not isinstance(content["delay_frames"], int) or content["delay_frames"] < 0:
            raise ValueError(f"found delay_frames {content['delay_frames']}, expected a whole number, 0 or more")
        return cls(**content)

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


def _is_sealed(content: bytes) -> bool:
    payload, tail = content[:-_TAIL_LENGTH], content[-_TAIL_LENGTH:]
    return tail == _TAIL_HEAD + hashlib.sha256(payload).hexdigest().encode()


class Model:
    """An exported network, checked and ready to run.

    Args:
        content: The bytes of a model file.
        origin: Where the bytes come from, for messages.

    Raises:
        ModelError: The file is not ours, was cut or altered, or has another format version.
    """

    def __init__(self, content: bytes, origin: str) -> None:
        import onnxruntime

        if not _is_sealed(content):
            raise ModelError(
                f"{origin} is not a model exported by sottovoce, or it was cut or altered (its hash does not fit): "
                "copy it again, or export it again with `sottovoce train`"
            )
        options = onnxruntime.SessionOptions()
        # One thread without spinning: frames are small, threads across files and streams use the cores better.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the bindings raise classes of their own that have no common base
            raise ModelError(f"{origin} holds no network that can be run ({error}): export it again") from error
        self.metadata = self._read_metadata(origin)
        self._check_shapes(origin)
        self._input_names = [node.name for node in self._session.get_inputs()]
        self._output_names = [node.name for node in self._session.get_outputs()]

    @classmethod
    def load(cls, path: Path | str) -> "Model":
        """Load a model file.

        Args:
            path: A file written by `sottovoce train`, `sottovoce adapt` or `sottovoce.models.export`, or the folder of
                a run, which holds it as model.onnx.

        Returns:
            The checked model.

        Raises:
            ModelError: The file is missing, not ours, cut, altered or of another format version.
        """
        path = Path(path)
        if path.is_dir():
            path /= "model.onnx"
            if not path.exists():
                raise ModelError(
                    f"found no model.onnx in the folder {path.parent}: give the folder that `sottovoce train` or "
                    "`sottovoce adapt` wrote, when its run has finished, or a model file"
                )
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"found no readable model file at {path} ({error.strerror}): give the path of a model.onnx written by "
                "`sottovoce train`, or the name of a bundled model: " + ", ".join(MODELS)
            ) from error
        return cls(content, str(path))

    def _read_metadata(self, origin: str) -> ModelMetadata:
        properties = self._session.get_modelmeta().custom_metadata_map
        text = properties.get(METADATA_KEY, "{}")
        try:
            return ModelMetadata.from_json(text)
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{origin} has settings that this version cannot use ({error}): update sottovoce, or export the model "
                "again"
            ) from error

    def _check_shapes(self, origin: str) -> None:
        metadata = self.metadata
        bins = sum(w // 2 + 1 for w in metadata.windows)
        expected = [(2, bins, None), *((channels, frames) for channels, frames in metadata.past_shapes)]
        found = [
            tuple(size if isinstance(size, int) else None for size in node.shape[1:])
            for node in self._session.get_inputs()
        ]
        if found != expected:
            raise ModelError(
                f"{origin} has inputs of shapes {found}, expected {expected} after its own settings: export it again"
            )

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
        """
        outputs = self._session.run(self._output_names, dict(zip(self._input_names, [spectra, *past], strict=True)))
        return outputs[0], outputs[1:]
