"""From a trained system to one file that is used without torch."""

import copy
import functools
import logging
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sottovoce.atomic import replacing
from sottovoce.config import FrontendSettings, ModelSettings, SystemSettings
from sottovoce.engine.adapters import write_adapters
from sottovoce.engine.graph import float_constants
from sottovoce.engine.metadata import ModelMetadata
from sottovoce.engine.model import Model
from sottovoce.engine.model_file import METADATA_KEY, read_metadata, seal, unsealed
from sottovoce.errors import ModelError
from sottovoce.models.bands import BandBlock
from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointAutoencoder, count_parameters, multiply_adds_per_second
from sottovoce.runtime import load_onnxruntime

_OPSET = 20
# The exported network is compared with the system on so much sound.
_CHECK_SECONDS = 1.0
# Rounding is 20 dB below this, and another network far above.
_MAX_DEVIATION_DB = -80.0
# Singular values so far below the largest are rounding of a product of two matrices.
_RANK_TOLERANCE = 1e-2
# Operators that take a constant for all values of a tensor.
_ELEMENTWISE = frozenset(("Add", "Div", "Greater", "GreaterOrEqual", "LessOrEqual", "Max", "Mul", "Sub", "Where"))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance:
    """What a model file says of its origin.

    Attributes:
        licence: Licence of the weights.
        training_data: The corpora, one sentence each.
        command: The command that trained it.
    """

    licence: str = "not stated"
    training_data: tuple[str, ...] = ()
    command: str = ""


def recorded_provenance(checkpoint: Path) -> Provenance:
    """Read what the exported model beside a checkpoint says of its origin.

    Args:
        checkpoint: Training checkpoint.

    Returns:
        Its origin; not stated where there is no exported model.

    Raises:
        ModelError: The exported model cannot be used.
    """
    for exported in (checkpoint.with_suffix(".onnx"), checkpoint.with_name("model.onnx")):
        if exported.exists():
            metadata = read_metadata(exported)
            return Provenance(metadata.licence, metadata.training_data, metadata.command)
    return Provenance()


class _FrameGraph(nn.Module):
    """The system with its past as plain inputs and outputs."""

    def __init__(self, model: JointAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectra: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        memory = Past(past)
        enhanced: Tensor = self.model(spectra, memory)
        return (enhanced, *memory.next)


class _OnnxGru(nn.Module):
    """A GRU as the one ONNX operator that it is; the exporter would unroll it, or not, after what it exported before.

    Args:
        layer: One direction, one layer, not batch first.
    """

    def __init__(self, layer: nn.GRU) -> None:
        super().__init__()
        self.hidden_size = layer.hidden_size
        # PyTorch stacks the gates reset, update, new; ONNX update, reset, new.
        weights = dict(layer.named_parameters())

        def stacked(name: str) -> Tensor:
            reset, update, new = weights[name].detach().chunk(3)
            return torch.cat([update, reset, new]).unsqueeze(0)

        self.input_weight = nn.Parameter(stacked("weight_ih_l0"))
        self.state_weight = nn.Parameter(stacked("weight_hh_l0"))
        self.bias = nn.Parameter(torch.cat([stacked("bias_ih_l0"), stacked("bias_hh_l0")], dim=1))

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, S, C)` and the state `(1, S, H)` to `(N, 1, S, H)` and the new state.

        The operator's axis of directions stays, which PyTorch's layer does not have: `BandBlock` reshapes it away.
        """
        count, sequences, _ = frames.shape
        output, last = torch.onnx.ops.symbolic_multi_out(
            "GRU",
            (frames, self.input_weight, self.state_weight, self.bias, None, state),
            {"hidden_size": self.hidden_size, "linear_before_reset": 1},
            dtypes=(frames.dtype, frames.dtype),
            shapes=((count, 1, sequences, self.hidden_size), (1, sequences, self.hidden_size)),
            version=_OPSET,
        )
        return output, last


def _deployed(model: JointAutoencoder) -> tuple[_FrameGraph, list[Tensor]]:
    """What is exported of a system, whose recurrent layers are replaced, and the past of one signal."""
    past = Past()
    with torch.no_grad():
        model(torch.zeros(1, 2, model.bins, 1), past)
    for block in model.modules():
        if isinstance(block, BandBlock):
            block.register_module("recurrence", _OnnxGru(block.recurrence))
    return _FrameGraph(model), past.next


@functools.lru_cache(maxsize=1)
def _trace(frontend: FrontendSettings, settings: ModelSettings) -> onnx.ModelProto:
    """The graph of systems with these settings, whose batch and number of frames are free, with weights of no meaning.

    It takes the exporter ten seconds and more, so one graph serves all weights.
    """
    with torch.random.fork_rng(devices=[]):
        system, past = _deployed(JointAutoencoder(frontend, settings).eval())
    example = (torch.zeros(2, 2, system.model.bins, 7), *(one.expand(2, -1, -1) for one in past))
    batch, frames = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("frames", min=1, max=1 << 20)
    shapes = ({0: batch, 3: frames}, tuple({0: batch} for _ in past))
    outputs = ["enhanced", *(f"next_{index}" for index in range(len(past)))]
    with warnings.catch_warnings():
        # The exporter warns about its own internals; what it gives is compared with the system in the tests.
        warnings.simplefilter("ignore")
        for name in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.ERROR)
        program = torch.onnx.export(
            system,
            example,
            dynamo=True,
            opset_version=_OPSET,
            # The optimiser takes constants up to 1e-8 for zeros, and drops what keeps roots and divisions finite.
            optimize=False,
            input_names=_input_names(len(past)),
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no graph")
    return program.model_proto


def _input_names(states: int) -> list[str]:
    """Names of the inputs of a network with so many states."""
    return ["spectra", *(f"past_{index}" for index in range(states))]


def _with_weights(model: onnx.ModelProto, system: _FrameGraph) -> onnx.ModelProto:
    """A copy of a graph that has the weights of a system."""
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    weights = system.state_dict()
    for tensor in filled.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights.pop(tensor.name).numpy(), tensor.name))
    return filled


def _simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its constants folded and its idle nodes gone: less to do at every start of a program."""
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    # Threads of its own choice are bound to cores that a container may not use, which it would report.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # This level keeps to operators of the standard; those above make graphs for one processor.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simplified = onnx.load(path)
    # Those of operators that the graph does not have, which another reader might not know.
    used = {node.domain for node in simplified.graph.node}
    kept = [opset for opset in simplified.opset_import if opset.domain in used]
    del simplified.opset_import[:]
    simplified.opset_import.extend(kept)
    return simplified


def _with_named_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with inputs of their own names: a state that stays as it is was left as one name for both ends."""
    graph = model.graph
    for value, name in zip(graph.input, _input_names(len(graph.input) - 1), strict=True):
        output, value.name = value.name, name
        if output == name:
            continue
        for node in graph.node:
            node.input[:] = [name if given == output else given for given in node.input]
        graph.node.append(onnx.helper.make_node("Identity", [name], [output]))
    return model


def _with_fixed_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what works out a shape that has one free size: -1 says the same and costs nothing."""
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    joined = {node.output[0]: node.input for node in graph.node if node.op_type == "Concat"}
    for node in graph.node:
        parts = joined.get(node.input[1]) if node.op_type == "Reshape" else None
        if parts is not None and sum(part not in constants for part in parts) == 1:
            shape = np.concatenate([constants.get(part, np.array([-1])) for part in parts])
            node.input[1] = f"{node.output[0]}_shape"
            graph.initializer.append(onnx.numpy_helper.from_array(shape.astype(np.int64), node.input[1]))
    _drop_idle(graph)
    return model


def _with_cheap_frames(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with operators that ONNX Runtime computes fast when frames come one by one.

    Its loop over a tensor whose last axis has one value calls a function for each value, unless the constant that
    meets the tensor has as many axes. Powers and the softplus are calls of the C library for each value, while
    logarithms and exponential functions are computed eight at a time.
    """
    graph = model.graph
    described = onnx.shape_inference.infer_shapes(model).graph
    axes = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*described.input, *described.value_info, *described.output)
    }
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: list[str], output: str) -> str:
        nodes.append(onnx.helper.make_node(operator, inputs, [output]))
        axes[output] = max(axes.get(name, 0) for name in inputs)
        return output

    def add_constant(value: NDArray[np.generic], name: str) -> str:
        if name not in constants:
            constants[name] = value
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name

    for node in graph.node:
        first, output = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "Cast" and first in constants:
            kind = onnx.helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
            add_constant(constants[first].astype(kind), output)
        elif node.op_type == "Pow" and constants.get(node.input[1], np.zeros(2)).size == 1:
            # Networks take squares of what has a sign, and other powers of amplitudes alone, which are above 0.
            if constants[node.input[1]] == 2:
                add("Mul", [first, first], output)
            else:
                add(
                    "Exp",
                    [add("Mul", [add("Log", [first], f"{output}_log"), node.input[1]], f"{output}_power")],
                    output,
                )
        elif node.op_type == "Softplus":
            # The exporter takes the input itself where it is large.
            one = add_constant(np.array(1, np.float32), "one")
            add("Log", [add("Add", [add("Exp", [first], f"{output}_exp"), one], f"{output}_sum")], output)
        else:
            nodes.append(node)
    for node in nodes:
        if node.op_type in _ELEMENTWISE:
            rank = max(axes.get(name, 0) for name in node.input)
            for place, name in enumerate(node.input):
                if name in constants and constants[name].size == 1 and constants[name].ndim < rank:
                    node.input[place] = add_constant(constants[name].reshape((1,) * rank), f"{name}_of_{rank}_axes")
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_idle(graph)
    return model


def _drop_idle(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that lead to no output: a runtime computes such nodes, and warns of the constants."""
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # every node stands behind those that it takes from
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes on every node: where in whose files it was called."""
    graph = model.graph
    parts = (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, *parts):
        del part.metadata_props[:]
        part.doc_string = ""


def _deviation_db(exported: Model, system: JointAutoencoder) -> float:
    """How far the exported network is from the system, in a piece and frame by frame, against the largest amplitude."""
    rate = exported.metadata.sample_rate
    time = torch.arange(round(_CHECK_SECONDS * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    # Like a vowel in noise, and once more softly after silence.
    voice = 0.1 * sum(torch.sin(2 * math.pi * 140 * harmonic * time) / harmonic for harmonic in range(1, 20))
    waveforms = torch.stack([voice + 0.02 * noise, 0.01 * voice * (time > _CHECK_SECONDS / 2)])
    with torch.no_grad():
        spectra = system.stft.analyse(waveforms)
        expected = system(spectra, Past()).numpy()
    mixture = np.ascontiguousarray(spectra.numpy())
    whole, _ = exported.run(mixture, exported.initial_past(len(mixture)))
    past, pieces = exported.initial_past(len(mixture)), []
    for frame in np.split(mixture, mixture.shape[-1], axis=-1):
        piece, past = exported.run(frame, past)
        pieces.append(piece)
    deviation = max(np.abs(found - expected).max() for found in (whole, np.concatenate(pieces, axis=-1)))
    return float(20 * np.log10(deviation / np.abs(mixture).max() + 1e-12))


def export_model(
    path: Path,
    model: JointAutoencoder,
    settings: SystemSettings,
    provenance: Provenance,
) -> ModelMetadata:
    """Write the one file that `sottovoce enhance` uses, after a comparison of its network with the system.

    Args:
        path: File to write, `.onnx`.
        model: A trained system.
        settings: Its settings.
        provenance: What the file shall say of its origin.

    Returns:
        The metadata that stand in the file.

    Raises:
        ModelError: The network gives other values in ONNX Runtime than in PyTorch, or none that are finite.
    """
    reference = copy.deepcopy(model).cpu().eval()
    deployed = copy.deepcopy(reference)
    parts = deployed.run_time_parts()
    parameters, frontend = count_parameters(parts), settings.frontend
    multiply_adds = multiply_adds_per_second(parts, frontend.sample_rate / frontend.hop)
    system, past = _deployed(deployed)
    metadata = ModelMetadata(
        name=settings.name,
        sample_rate=frontend.sample_rate,
        windows=(frontend.window,),
        synthesis_window=frontend.synthesis_window or frontend.window,
        hop=frontend.hop,
        delay_frames=0,
        past_shapes=tuple((state.shape[1], state.shape[2]) for state in past),
        parameters=parameters,
        multiply_adds_per_second=multiply_adds,
        licence=provenance.licence,
        training_data=provenance.training_data,
        command=provenance.command,
        settings=settings.model_dump(mode="json"),
    )
    graph = _simplified(_with_weights(_trace(frontend, settings.model), system))
    graph = _with_cheap_frames(_with_fixed_shapes(_with_named_inputs(graph)))
    _forget_origin(graph)
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    content = seal(graph.SerializeToString())
    deviation_db = _deviation_db(Model(content, str(path)), reference)
    if not deviation_db <= _MAX_DEVIATION_DB:
        raise ModelError(
            f"the exported network of {path} differs from the trained one by {deviation_db:.0f} dB of the largest "
            f"amplitude, expected {_MAX_DEVIATION_DB:.0f} dB at most: install the tested versions of torch, onnx and "
            "onnxruntime (`pip install -c constraints.txt`), and export it again"
        )
    _log.info(
        "ONNX Runtime gives what PyTorch gives: they differ by %.0f dB of the largest amplitude at most (allowed: "
        "%.0f dB), in a piece and frame by frame",
        deviation_db,
        _MAX_DEVIATION_DB,
    )
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return metadata


def adapters_between(
    base: bytes,
    old: JointAutoencoder,
    new: JointAutoencoder,
    *,
    rank: int,
    training_data: tuple[str, ...],
    command: str,
) -> bytes:
    """Make the file of a place: what an adapted system adds to the exported weights of the one that it came from.

    The exporter and the runtime rename and transpose weights, and join some of them; so each is found by its values.

    Args:
        base: The bytes of the exported old system, which have been checked.
        old: The system before.
        new: The system after, whose adapters are merged.
        rank: Rank of the adapters of matrices, 0 if there are none.
        training_data: What they were trained with, one sentence each.
        command: The command which trained them.

    Returns:
        The bytes of the file.

    Raises:
        ModelError: `base` is not the old system's.
    """
    constants = float_constants(bytearray(unsealed(base)))
    before, after = (_deployed(copy.deepcopy(system).cpu().eval())[0].state_dict() for system in (old, new))
    changes = {}
    for name, weight in before.items():
        if not torch.equal(weight, after[name]):
            constant, is_transposed = _found(constants, name, weight.numpy())
            change = (after[name] - weight).numpy()
            changes[constant] = _factors(change.T if is_transposed else change, rank)
    return write_adapters(changes, base=base, training_data=training_data, command=command)


def _found(constants: dict[str, NDArray[np.float32]], name: str, weight: NDArray[np.float32]) -> tuple[str, bool]:
    """Which constant of a graph holds a weight, and whether it is transposed there."""
    for candidate in (name, *constants):
        constant = constants.get(candidate)
        if constant is not None and constant.size == weight.size:
            for is_transposed, form in ((False, weight), (True, weight.T)):
                # Adapters of an earlier place were rounded to half precision.
                if np.allclose(constant.ravel(), form.ravel(), rtol=1e-3, atol=1e-3):
                    return candidate, is_transposed
    raise ModelError(
        "found an exported model beside the checkpoint that has other weights: give the checkpoint that it was "
        "exported from, or delete it"
    )


def _factors(
    change: NDArray[np.float32], rank: int
) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is added to a weight as a product of two matrices, or as it is where that takes no more values."""
    forms = [change, change.reshape(len(change), -1)] if change.ndim > 1 else []
    for form in forms:
        *count, rows, columns = form.shape
        if math.prod(count) * rank * (rows + columns) < change.size:
            left, sizes, right = np.linalg.svd(form, full_matrices=False)
            if np.all(sizes[..., rank:] <= _RANK_TOLERANCE * sizes[..., :1]):
                root = np.sqrt(sizes[..., :rank])
                return left[..., :rank] * root[..., np.newaxis, :], root[..., np.newaxis] * right[..., :rank, :]
    return change
