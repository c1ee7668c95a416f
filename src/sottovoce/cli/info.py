"""The command `info`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sottovoce import terminal
from sottovoce.paths import is_folder

if TYPE_CHECKING:
    from sottovoce.engine.model import ModelMetadata


def info(file: Annotated[str, tyro.conf.arg(metavar="FILE")] = "default", /) -> None:
    """Tell what is in a recording or in a model.

    Example:
        sottovoce info interview.wav
        sottovoce info runs/my_place/model.onnx

    Args:
        file: A recording; or a model: the name of a bundled one (default, live), a file with the ending .onnx, or the
            folder of a training.
    """
    from sottovoce.weights import MODELS

    path = Path(file)
    if file not in MODELS and path.suffix.lower() != ".onnx" and not is_folder(path):
        lines = _describe_recording(path)
    else:
        import sottovoce

        lines = _describe_model(sottovoce.load(file).model.metadata)
    width = max(map(len, lines))
    for name, value in lines.items():
        first, *others = value.splitlines() or [""]
        terminal.print_line(f"{name:<{width}}  {first}")
        for line in others:
            terminal.print_line(f"{'':<{width}}  {line}")


def _describe_recording(path: Path) -> dict[str, str]:
    import numpy as np

    from sottovoce.signal import audio
    from sottovoce.signal.levels import SILENCE_DB, to_db

    recording = audio.probe(path)
    # The largest number that 16 bits can hold; recordings of more bits that clip reach it as well.
    full_scale = 1 - 2**-15
    peak, energy, clipped, frames = 0.0, 0.0, 0, 0
    for block in audio.blocks(path, recording.sample_rate):
        magnitude = np.abs(block)
        peak = max(peak, float(magnitude.max(initial=0)))
        energy += float(np.sum(np.square(magnitude, dtype=np.float64)))
        clipped += int(np.count_nonzero(magnitude >= full_scale))
        frames += block.shape[1]
    samples = frames * recording.channels

    def level(amplitude: float) -> str:
        level_db = float(to_db(amplitude))
        return f"{level_db:.1f} dBFS" if level_db > SILENCE_DB else "silence"

    return {
        "format": f"{recording.format}, {recording.subtype}",
        "rate": f"{recording.sample_rate} Hz",
        "channels": str(recording.channels),
        "length": f"{terminal.duration(frames / recording.sample_rate)} ({frames} samples)",
        "peak": level(peak),
        "rms": level((energy / max(1, samples)) ** 0.5),
        "clipped": f"{clipped} samples at full scale ({100 * clipped / max(1, samples):.3g} %)",
    }


def _describe_model(metadata: "ModelMetadata") -> dict[str, str]:
    import json

    return {
        "name": metadata.name,
        "rate": f"{metadata.sample_rate} Hz",
        "latency": f"{1000 * metadata.latency_seconds:.0f} ms (window and network)",
        "windows": f"{', '.join(map(str, metadata.windows))} samples, synthesis {metadata.synthesis_window}, "
        f"hop {metadata.hop}",
        "size": f"{metadata.parameters:,} parameters",
        "cost": f"{metadata.multiply_adds_per_second / 1e6:,.0f} million multiply-adds per second of sound",
        "licence": metadata.licence,
        "data": "; ".join(metadata.training_data),
        "command": metadata.command,
        "settings": json.dumps(metadata.settings, indent=2, ensure_ascii=False),
    }
