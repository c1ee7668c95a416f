"""An exported network, checked and ready to run."""

import contextlib
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.adapters import BASE_NAME, PLACE_SUFFIX, AdapterMetadata, read_adapters
from sottovoce.engine.graph import Operator, operators, with_outputs
from sottovoce.engine.metadata import ROOMS
from sottovoce.engine.model_file import checked_metadata, read_content, sealed_hash
from sottovoce.errors import ConfigError, ModelError
from sottovoce.paths import is_folder
from sottovoce.runtime import load_onnxruntime
from sottovoce.weights import MODELS

if TYPE_CHECKING:
    import onnxruntime

# What messages quote of the runtime's.
_MAX_QUOTED = 160
# Spectra of samples that a stream lets in, up to ±1e9, stay below this, and squares of it are finite in float32.
_MAX_AMPLITUDE = np.float32(1e16)
# All tensors of a process at once: several times what the bundled networks take with 64 channels.
_MAX_TENSOR_BYTES = 2**29
# The weights of D_A's last layer, whose softplus is the speech that the mask is guided by.
_DECODER_WEIGHTS = "model.amplitude_decoder.output.conv.weight"

Float32Array = NDArray[np.float32]


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
        self.metadata = checked_metadata(content, origin)
        self._origin = origin
        self._content = content
        try:
            self._session = _open_session(content)
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
    def load(cls, path: Path | str, *, origin: str | None = None) -> "Model":
        """Load a model file.

        Args:
            path: A file written by `sottovoce train`, `sottovoce adapt` or `sottovoce export`, or the folder of a run,
                which holds it as model.onnx; or the file of a place, whose model is a bundled one or lies beside it as
                base.onnx.
            origin: What messages about the network call it; its path if not given.

        Returns:
            The checked model.

        Raises:
            ModelError: The file is missing or cannot be used: see above.
        """
        path = Path(path)
        if is_folder(path):
            folder, path = path, path / "model.onnx"
            try:
                is_there = path.is_file()
            except OSError as error:
                raise ModelError(
                    f"cannot read the folder {folder} ({error.strerror}): check that you may enter it"
                ) from error
            if not is_there:
                raise ModelError(
                    f"found no model.onnx in the folder {folder}: give the folder that `sottovoce train` or "
                    "`sottovoce adapt` wrote, when its run has finished, or a model file"
                )
        origin = origin or str(path)
        content = read_content(path)
        if path.suffix == PLACE_SUFFIX:
            adapters = read_adapters(content, origin)
            content = adapters.applied(_base(adapters.metadata, path.parent, origin), origin)
        return cls(content, origin)

    @property
    def hash(self) -> str:
        """SHA-256 of the model file, in hexadecimal digits: two models that have it in common are one."""
        return hashlib.sha256(self._content).hexdigest()

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

    def initial_past(self, batch: int, room: str = "natural") -> list[Float32Array]:
        """State of every layer before the first frame.

        Args:
            batch: Number of independent signals.
            room: What of the room to keep, of `ROOMS`.

        Returns:
            Arrays `(batch, channels, frames)` of zeros, but for the state that says what of the room to keep.

        Raises:
            ConfigError: The network does not have that choice.
        """
        if room not in self.metadata.rooms:
            raise ConfigError(
                f"found room {room} and {self._origin}, which has no choice of the room, expected natural: give "
                "another model, as of a training with model.room_choice"
            )
        past = [np.zeros((batch, *shape), np.float32) for shape in self.metadata.past_shapes]
        if len(self.metadata.rooms) > 1:
            past[0][:] = np.array(ROOMS[room], np.float32)[:, np.newaxis]
        return past

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
        enhanced, *following = self._results(self._session, self._output_names, spectra, past)
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

    def compare(
        self, spectra: Float32Array, past: list[Float32Array]
    ) -> tuple[Float32Array, Float32Array, list[Float32Array]]:
        """Look at the speech that D_A gives for some frames, beside the output that it guides.

        Args:
            spectra: Mixture `(batch, 2, F, N)`, all resolutions.
            past: State `(batch, channels, frames)` of every layer.

        Returns:
            Compressed amplitudes `(batch, F of the longest window, N)` of D_A and of the output, both in the network's
            own scale; and the new state.

        Raises:
            ModelError: The network has no such decoder, or fails.
        """
        session, names, exponent = self._comparison
        *following, decoded, scaled = self._results(session, names, spectra, past)
        batch, frames, bins = len(spectra), spectra.shape[-1], self.metadata.windows[0] // 2 + 1
        # Inside, the frames are the last axis or, as they have no past there, join the batch.
        if decoded.shape == (batch * frames, bins):
            decoded = decoded.reshape(batch, frames, bins).transpose(0, 2, 1)
        if scaled.shape == (batch * frames, 2, bins, 1):
            scaled = scaled.reshape(batch, frames, 2, bins).transpose(0, 2, 3, 1)
        if decoded.shape != (batch, bins, frames) or scaled.shape != (batch, 2, bins, frames):
            raise ModelError(_no_decoder(self._origin))
        power = np.square(scaled[:, 0]) + np.square(scaled[:, 1])
        speech = np.logaddexp(np.float32(0), decoded)  # the softplus behind the layer
        if not (np.isfinite(power).all() and np.isfinite(speech).all()):
            raise ModelError(f"the network of {self._origin} gave values that are no numbers: take another model")
        return speech, np.asarray(power ** np.float32(exponent / 2)), following

    @functools.cached_property
    def _comparison(self) -> tuple["onnxruntime.InferenceSession", list[str], float]:
        """What `compare` needs: a session that gives more, the names of its results, the exponent of amplitudes."""
        frontend = self.metadata.settings.get("frontend")
        exponent = frontend.get("compression") if isinstance(frontend, dict) else None
        found = operators(self._content)
        decoded = [operator.outputs[0] for operator in found if _DECODER_WEIGHTS in operator.inputs]
        scaled = _before_level(found, self._output_names[0])
        if len(decoded) != 1 or scaled is None or not isinstance(exponent, float) or not 0 < exponent <= 1:
            raise ModelError(_no_decoder(self._origin))
        try:
            session = _open_session(with_outputs(self._content, (decoded[0], scaled)))
        except Exception as error:  # the bindings raise classes of their own that have no common base
            raise ModelError(_no_decoder(self._origin)) from error
        return session, [*self._output_names[1:], decoded[0], scaled], exponent

    def _results(
        self,
        session: "onnxruntime.InferenceSession",
        names: list[str],
        spectra: Float32Array,
        past: list[Float32Array],
    ) -> list[Float32Array]:
        """What a session gives for some frames."""
        try:
            return list(session.run(names, dict(zip(self._input_names, [spectra, *past], strict=True))))
        except Exception as error:  # the bindings raise classes of their own that have no common base
            raise ModelError(
                f"the network of {self._origin} failed ({_first_words(error)}): export it again, or take another model"
            ) from error


def _before_level(found: list[Operator], output: str) -> str | None:
    """Name of the output before it is multiplied by the level of the recording, behind which only axes are moved."""
    givers = {name: operator for operator in found for name in operator.outputs}
    while (operator := givers.get(output)) is not None and operator.kind in ("Reshape", "Transpose"):
        output = operator.inputs[0]
    return operator.inputs[0] if operator is not None and operator.kind == "Mul" else None


def _no_decoder(origin: str) -> str:
    return (
        f"found no decoder of speech in {origin} to compare the output with, expected a model of `sottovoce train`: "
        "take a bundled model, or leave out what asks how sure it is (--safe, confidence)"
    )


def _base(place: AdapterMetadata, folder: Path, origin: str) -> bytes:
    """The model that a place belongs to: a bundled one, or the one beside it."""
    for path in (*MODELS.values(), folder / BASE_NAME):
        with contextlib.suppress(OSError):
            if sealed_hash(path) == place.base_sha256:
                return read_content(path)
    raise ModelError(
        f"{origin} belongs to another model, named {place.base_name[:_MAX_QUOTED]!r}, than the bundled ones of this "
        f"version and {BASE_NAME} beside it: put that model there, or adapt again"
    )


def _open_session(content: bytes) -> "onnxruntime.InferenceSession":
    """A session whose memory is bounded, whatever its network computes."""
    onnxruntime = load_onnxruntime()
    _bound_memory()
    options = onnxruntime.SessionOptions()
    # One thread without spinning: frames are small, threads across files and streams use the cores better.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Exported graphs are optimised with operators of the standard. The runtime's own would make a frame cheaper by 2 %
    # (by 6 % if frames come one by one), but take 20 ms at every start; and constants that it folds might become large.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # The bytes were checked as those of an ONNX model, and are to be read as nothing else.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # What it would write of an error is in the exception as well.
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Without a fallback, which would try the same again and print that it does.
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)


@functools.cache
def _bound_memory() -> None:
    """Register the allocator of all sessions in this process, which refuses more than `_MAX_TENSOR_BYTES`.

    A few allowed operators in a row, such as Expand or Concat, can ask for any number of bytes.
    """
    onnxruntime = load_onnxruntime()
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    arena = onnxruntime.OrtArenaCfg({"max_mem": _MAX_TENSOR_BYTES})
    # A program that has registered an allocator of its own keeps it.
    with contextlib.suppress(Exception):  # the bindings raise classes of their own that have no common base
        onnxruntime.create_and_register_allocator(memory, arena)


def _first_words(error: Exception) -> str:
    """What the runtime says, on one line and not for ever."""
    text = " ".join(str(error).split())
    if "Available memory of" in text:
        return f"it takes more than {_MAX_TENSOR_BYTES // 2**20} MiB of memory"
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "..."


def _listed(shapes: list[tuple[int | None, ...]]) -> str:
    few = 4
    return str(shapes) if len(shapes) <= few else f"{str(shapes[:few])[:-1]} and {len(shapes) - few} more]"
