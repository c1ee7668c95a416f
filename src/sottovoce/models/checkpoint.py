"""Training checkpoints: safetensors and settings, never pickle."""

import json
from pathlib import Path

import torch
from torch import nn

from sottovoce.atomic import replacing
from sottovoce.config import Kind, RunSettings, SystemSettings, parse_settings_as
from sottovoce.engine.metadata import parse_json
from sottovoce.errors import ConfigError, ModelError
from sottovoce.extras import require
from sottovoce.models.joint import JointAutoencoder


def save_checkpoint(path: Path, model: nn.Module, settings: RunSettings, dtype: torch.dtype = torch.float32) -> None:
    """Write all networks of a system and its settings.

    Args:
        path: File to write, `.safetensors`.
        model: The system.
        settings: Its settings.
        dtype: Type of the stored values; `torch.float16` halves the file.
    """
    from safetensors.torch import save

    tensors = {
        name: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {"sottovoce": json.dumps(settings.model_dump(mode="json"))}))


def read_checkpoint(path: Path, kind: type[Kind]) -> tuple[dict[str, torch.Tensor], Kind]:
    """Read what `save_checkpoint` wrote.

    Args:
        path: File written by `save_checkpoint`.
        kind: Of the settings.

    Returns:
        Values by name, and settings.

    Raises:
        ModelError: The file is missing, foreign or cut.
        MissingExtraError: safetensors is not installed.
    """
    require("train", "Reading a training checkpoint", "safetensors")
    from safetensors import SafetensorError, safe_open

    foreign = f"{path} is not a training checkpoint of sottovoce, or it was cut: give a run's checkpoint.safetensors"
    try:
        path.open("rb").close()  # safetensors says of every cause that there is no such file
        with safe_open(path, "pt") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a mapping)
    except OSError as error:
        raise ModelError(
            f"found no readable training checkpoint at {path} ({error.strerror or error}): give a run's "
            "checkpoint.safetensors, which is there when its training has finished"
        ) from error
    except SafetensorError as error:
        raise ModelError(foreign) from error
    if "sottovoce" not in metadata:
        raise ModelError(foreign)
    try:
        content = parse_json(metadata["sottovoce"])
        settings = parse_settings_as(kind, content if isinstance(content, dict) else {}, str(path))
    except (ConfigError, ValueError) as error:
        raise ModelError(
            f"{path} has settings that this version cannot use ({error}): use the version that wrote it, or train "
            "it again"
        ) from error
    return tensors, settings


def load_checkpoint(path: Path) -> tuple[JointAutoencoder, SystemSettings]:
    """Read a joint system back, ready to be trained on or exported.

    Args:
        path: File written by `save_checkpoint`.

    Returns:
        The system in evaluation mode, float32, and its settings.

    Raises:
        ModelError: The file is missing, foreign or cut, or holds another system.
        MissingExtraError: safetensors is not installed.
    """
    tensors, settings = read_checkpoint(path, SystemSettings)
    model = JointAutoencoder(settings.frontend, settings.model)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path} holds other networks than its settings describe: export or train it again") from error
    return model.eval(), settings
