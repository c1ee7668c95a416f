"""From a trained system to one file that is used without torch."""

import copy
import functools
import logging
import math
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
from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointAutoencoder, count_parameters, multiply_adds_per_second
from sottovoce.models.onnx_graph import deployable, input_names

_OPSET = 20
# The exported network is compared with the system on so much sound.
_CHECK_SECONDS = 1.0
# Rounding is 20 dB below this, and another network far above.
_MAX_DEVIATION_DB = -80.0
# Singular values so far below the largest are rounding of a product of two matrices.
_RANK_TOLERANCE = 1e-2

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
    """The system with its past as plain inputs and outputs.

    What has no past is computed for single frames, whatever signals they are of: ONNX Runtime works on the last axes of
    a tensor at once, which are then those of a frame, and multiplies all frames by a matrix in one product.
    """

    def __init__(self, model: JointAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectra: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        batch, parts, bins, count = spectra.shape
        memory = Past(past, single=(batch, count))
        frames = spectra.permute(0, 3, 1, 2).reshape(batch * count, parts, bins, 1)
        enhanced: Tensor = self.model(frames, memory)
        signals = enhanced.reshape(batch, count, parts, enhanced.shape[2]).permute(0, 2, 3, 1)
        return (signals, *memory.next)


class _OnnxLinear(nn.Module):
    """A linear layer as one operator: the exporter gives a product and a sum where the input has more than two axes.

    Args:
        layer: Has a bias.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, rows: Tensor) -> Tensor:
        """Map `(..., I)` to `(..., O)`."""
        mapped = nn.functional.linear(rows.flatten(0, -2), self.weight, self.bias)
        return mapped.reshape(*rows.shape[:-1], len(self.weight))


class _OnnxPointwise(nn.Module):
    """A convolution of one tap on single frames as a linear layer: ONNX Runtime would convolve one after another.

    Args:
        layer: Has one tap.
    """

    def __init__(self, layer: nn.Conv1d) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(layer.weight.detach().squeeze(-1)), layer.bias

    def forward(self, frames: Tensor) -> Tensor:
        """Map `(B, I, 1)` to `(B, O, 1)`."""
        return nn.functional.linear(frames.squeeze(-1), self.weight, self.bias).unsqueeze(-1)


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
    """What is exported of a system, some of whose layers are replaced, and the past of one signal."""
    past = Past()
    with torch.no_grad():
        model(torch.zeros(1, 2, model.bins, 1), past)
    for block in list(model.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.GRU):
                block.register_module(name, _OnnxGru(layer))
            elif isinstance(layer, nn.Linear) and layer.bias is not None:
                block.register_module(name, _OnnxLinear(layer))
            elif isinstance(layer, nn.Conv1d) and layer.kernel_size == (1,):
                block.register_module(name, _OnnxPointwise(layer))
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
            input_names=input_names(len(past)),
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no graph")
    return program.model_proto


def _with_weights(model: onnx.ModelProto, system: _FrameGraph) -> onnx.ModelProto:
    """A copy of a graph that has the weights of a system."""
    filled = onnx.ModelProto()
    filled.CopyFrom(model)
    weights = system.state_dict()
    for tensor in filled.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights.pop(tensor.name).numpy(), tensor.name))
    return filled


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
    graph = deployable(_with_weights(_trace(frontend, settings.model), system))
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
