"""From a trained system to one file that is used without torch."""

import copy
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from sottovoce.atomic import replacing
from sottovoce.config import SystemSettings
from sottovoce.engine.model import METADATA_KEY, ModelMetadata, seal
from sottovoce.models.blocks import Past
from sottovoce.models.joint import JointAutoencoder, count_parameters, multiply_adds_per_second


class _FrameGraph(nn.Module):
    """The system with its past as plain inputs and outputs."""

    def __init__(self, model: JointAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectra: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        memory = Past(past)
        enhanced: Tensor = self.model(spectra, memory)
        return (enhanced, *memory.next)


def _trace(model: JointAutoencoder, past: list[Tensor]) -> onnx.ModelProto:
    """The graph of a system whose batch and number of frames are free."""
    bins = sum(model.stft.reference.bins)
    example = (torch.zeros(2, 2, bins, 7), *(state.expand(2, -1, -1) for state in past))
    batch, frames = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("frames", min=1, max=1 << 20)
    shapes = ({0: batch, 3: frames}, tuple({0: batch} for _ in past))
    inputs = ["spectra", *(f"past_{index}" for index in range(len(past)))]
    outputs = ["enhanced", *(f"next_{index}" for index in range(len(past)))]
    with warnings.catch_warnings():
        # The exporter warns about its own internals; what it gives is compared with the system in the tests.
        warnings.simplefilter("ignore")
        for name in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.ERROR)
        program = torch.onnx.export(
            _FrameGraph(model),
            example,
            dynamo=True,
            # The optimiser takes constants up to 1e-8 for zeros, and drops what keeps roots and divisions finite.
            optimize=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave no graph")
    return program.model_proto


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes on every node: where in whose files it was called."""
    graph = model.graph
    parts = (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, *parts):
        del part.metadata_props[:]
        part.doc_string = ""


def export_model(
    path: Path,
    model: JointAutoencoder,
    settings: SystemSettings,
    *,
    licence: str,
    training_data: Sequence[str],
    command: str,
) -> ModelMetadata:
    """Write the one file that `sottovoce enhance` uses.

    Args:
        path: File to write, `.onnx`.
        model: A trained system.
        settings: Its settings.
        licence: Licence of the weights.
        training_data: The corpora of the training, one sentence each.
        command: The command which trained it.

    Returns:
        The metadata that stand in the file.
    """
    deployed = copy.deepcopy(model).cpu().eval()
    memory = Past()
    with torch.no_grad():
        deployed(torch.zeros(1, 2, sum(model.stft.reference.bins), 1), memory)
    frontend = settings.frontend
    parts = deployed.run_time_parts()
    metadata = ModelMetadata(
        name=settings.name,
        sample_rate=frontend.sample_rate,
        windows=frontend.windows,
        hop=frontend.hop,
        delay_frames=deployed.delay_frames,
        past_shapes=tuple((state.shape[1], state.shape[2]) for state in memory.next),
        parameters=count_parameters(parts),
        multiply_adds_per_second=multiply_adds_per_second(parts, frontend.sample_rate / frontend.hop),
        licence=licence,
        training_data=tuple(training_data),
        command=command,
        settings=settings.model_dump(mode="json"),
    )
    graph = _trace(deployed, memory.next)
    _forget_origin(graph)
    entry = graph.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    with replacing(path) as temporary:
        temporary.write_bytes(seal(graph.SerializeToString()))
    return metadata
