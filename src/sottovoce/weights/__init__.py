"""What comes along: models, their training checkpoints, and clean speech to adapt them with."""

from pathlib import Path

from sottovoce.errors import DataError
from sottovoce.paths import is_folder

_FOLDER = Path(__file__).parent
_NAMES = ("default", "live")

MODELS = {name: _FOLDER / f"{name}.onnx" for name in _NAMES}
"""The exported models by name."""

CHECKPOINTS = {name: _FOLDER / f"{name}.safetensors" for name in _NAMES}
"""Their training checkpoints at half precision."""

DEFAULT_SPEECH = _FOLDER / "speech"
"""Folder of clean speech, an utterance each of many speakers."""


def find_checkpoint(model: str) -> Path:
    """Find the training checkpoint of a model.

    Args:
        model: A bundled model, a run's folder, or a checkpoint itself.

    Returns:
        The checkpoint; whether it exists is seen when it is read.

    Raises:
        DataError: `model` is an exported model or the file of a place, which cannot be trained.
    """
    checkpoint = CHECKPOINTS.get(model, Path(model))
    if is_folder(checkpoint):
        checkpoint /= "checkpoint.safetensors"
    if checkpoint.suffix in (".onnx", ".place"):
        raise DataError(
            f"found the exported model {checkpoint}, expected a training checkpoint: give the checkpoint.safetensors "
            "that lies beside it in its run's folder"
        )
    return checkpoint
