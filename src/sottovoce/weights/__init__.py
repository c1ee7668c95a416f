"""What comes along: models, their training checkpoints, and clean speech to adapt them with."""

from pathlib import Path

_FOLDER = Path(__file__).parent
_NAMES = ("default", "live")

MODELS = {name: _FOLDER / f"{name}.onnx" for name in _NAMES}
"""The exported models by name."""

CHECKPOINTS = {name: _FOLDER / f"{name}.safetensors" for name in _NAMES}
"""Their training checkpoints at half precision."""

DEFAULT_SPEECH = _FOLDER / "speech"
"""Folder of clean speech, an utterance each of many talkers."""
