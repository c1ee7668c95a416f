"""The command `info`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sottovoce import terminal
from sottovoce.errors import ConfigError
from sottovoce.paths import is_folder

if TYPE_CHECKING:
    from sottovoce.engine.metadata import ModelMetadata


def info(
    file: Annotated[str, tyro.conf.arg(metavar="FILE")] = "default",
    /,
    *,
    settings: bool = False,
    json: bool = False,
) -> None:
    """Show what is in a recording or in a model.

    Example:
        sottovoce info interview.wav
        sottovoce info runs/my_place/model.onnx
        sottovoce info runs/my_room/model.place

    Args:
        file: A recording; or a model: the name of a bundled one (default, live), a file with the ending .onnx or
            .place, or the folder of a training or an adaptation.
        settings: Print the settings of a model's training, as JSON, and nothing else.
        json: Print the same as JSON, with numbers in place of words.
    """
    from sottovoce.weights import MODELS

    path = Path(file)
    if file in MODELS or path.suffix.lower() in (".onnx", ".place") or is_folder(path):
        import sottovoce

        metadata = sottovoce.load(file).model.metadata
        if settings:
            terminal.print_json(metadata.settings)
            return
        found, lines = _measure_model(metadata), _describe_model(metadata)
    elif settings:
        raise ConfigError(f"found --settings with the recording {path}, expected a model: it alone has settings")
    else:
        found = _measure_recording(path)
        lines = _describe_recording(found)
    if json:
        terminal.print_json(found)
        return
    width = max(map(len, lines))
    for name, value in lines.items():
        first, *others = value.splitlines() or [""]
        terminal.print_line(f"{name:<{width}}  {first}")
        for line in others:
            terminal.print_line(f"{'':<{width}}  {line}")


def _measure_recording(path: Path) -> dict[str, Any]:
    import numpy as np

    from sottovoce.signal import audio
    from sottovoce.signal.levels import to_db

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

    return {
        "format": recording.format,
        "subtype": recording.subtype,
        "sample_rate": recording.sample_rate,
        "channels": recording.channels,
        "frames": frames,
        "seconds": frames / recording.sample_rate,
        "peak_dbfs": float(to_db(peak)),
        "rms_dbfs": float(to_db((energy / max(1, samples)) ** 0.5)),
        "clipped_samples": clipped,
    }


def _describe_recording(found: dict[str, Any]) -> dict[str, str]:
    from sottovoce.signal.levels import SILENCE_DB

    def level(level_db: float) -> str:
        return f"{level_db:.1f} dBFS" if level_db > SILENCE_DB else "silence"

    share = found["clipped_samples"] / max(1, found["frames"] * found["channels"])
    return {
        "format": f"{found['format']}, {found['subtype']}",
        "rate": f"{found['sample_rate']} Hz",
        "channels": str(found["channels"]),
        "length": f"{terminal.duration(found['seconds'])} ({found['frames']} samples)",
        "peak": level(found["peak_dbfs"]),
        "rms": level(found["rms_dbfs"]),
        "clipped": f"{found['clipped_samples']} samples at full scale ({100 * share:.3g} %)",
    }


def _measure_model(metadata: "ModelMetadata") -> dict[str, Any]:
    return {
        "name": metadata.name,
        "sample_rate": metadata.sample_rate,
        "latency_seconds": metadata.latency_seconds,
        "rooms": list(metadata.rooms),
        "windows": list(metadata.windows),
        "synthesis_window": metadata.synthesis_window,
        "hop": metadata.hop,
        "parameters": metadata.parameters,
        "multiply_adds_per_second": metadata.multiply_adds_per_second,
        "licence": metadata.licence,
        "training_data": list(metadata.training_data),
        "command": metadata.command,
        "settings": dict(metadata.settings),
    }


def _describe_model(metadata: "ModelMetadata") -> dict[str, str]:
    return {
        "name": metadata.name,
        "rate": f"{metadata.sample_rate} Hz",
        "latency": f"{1000 * metadata.latency_seconds:.0f} ms (window and network)",
        "rooms": ", ".join(metadata.rooms),
        "windows": f"{', '.join(map(str, metadata.windows))} samples, synthesis {metadata.synthesis_window}, "
        f"hop {metadata.hop}",
        "size": f"{metadata.parameters:,} parameters",
        "cost": f"{metadata.multiply_adds_per_second / 1e6:,.0f} million multiply-adds per second of sound",
        "licence": metadata.licence,
        "data": " ".join(metadata.training_data),
        "command": metadata.command,
        "settings": "`--settings` prints them",
    }
