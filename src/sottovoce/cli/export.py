"""The command `export`."""

from typing import Annotated

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output, refuse_existing
from sottovoce.errors import ConfigError
from sottovoce.extras import require


def export(
    model: Annotated[str, tyro.conf.arg(metavar="CHECKPOINT")],
    /,
    *,
    output: Output,
    licence: str | None = None,
    training_data: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Write a trained network as an ONNX file, for --model and for other programs.

    `train` and `adapt` export what they have trained. This is for a network that was trained further in PyTorch, or
    whose file is lost or of an older version. One file serves whole recordings and streams: it takes any number of
    frames, and the state of the network is among its inputs and outputs (see docs/onnx.md). Before the file is
    written, ONNX Runtime and PyTorch enhance the same sound, and must agree.

    Example:
        sottovoce export tuned.safetensors -o tuned.onnx
        sottovoce export runs/my_room -o my_room.onnx
        sottovoce enhance meeting.wav -o clear.wav --model tuned.onnx

    Args:
        model: What to export: a training checkpoint (.safetensors), a run's folder, or a bundled model (default, live).
        output: File to write, .onnx.
        licence: Licence of the weights, to be kept in the file; by default that in the exported model beside the
            checkpoint, if there is one.
        training_data: Corpora of the training, one sentence each, to be kept in the file; by default those there.
        overwrite: Replace an existing file.
    """
    require("train", "Exporting a model", "torch", "safetensors", "onnx", "onnxscript")
    from sottovoce.weights import find_checkpoint

    checkpoint = find_checkpoint(model)
    if output.suffix.lower() != ".onnx":
        raise ConfigError(f"found the output {output}, expected a name that ends in .onnx")
    refuse_existing(output, overwrite=overwrite)
    with interruption.ending_at_once():
        from dataclasses import replace

        from sottovoce.models.checkpoint import load_checkpoint
        from sottovoce.models.export import export_model, recorded_provenance

    network, settings = load_checkpoint(checkpoint)
    provenance = recorded_provenance(checkpoint)
    if licence is not None:
        provenance = replace(provenance, licence=licence)
    if training_data:
        provenance = replace(provenance, training_data=training_data)
    terminal.say_every_step()
    metadata = export_model(output, network, settings, provenance)
    terminal.say(
        f"Wrote {output}: {output.stat().st_size / 1e6:.1f} MB, {metadata.sample_rate} Hz, latency "
        f"{1000 * metadata.latency_seconds:.0f} ms, licence {metadata.licence}."
    )
