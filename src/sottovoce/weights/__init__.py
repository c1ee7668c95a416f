"""What comes along: the default model, its training checkpoint, and clean speech to adapt it with."""

from pathlib import Path

DEFAULT_MODEL = Path(__file__).parent / "default.onnx"
"""The exported model."""

DEFAULT_CHECKPOINT = Path(__file__).parent / "default.safetensors"
"""Its training checkpoint at half precision."""

_PACKAGED_SPEECH = Path(__file__).parent / "speech"

DEFAULT_SPEECH = (
    _PACKAGED_SPEECH if _PACKAGED_SPEECH.is_dir() else Path(__file__).parents[3] / "examples" / "unpaired" / "speech"
)
"""Folder of clean speech of several talkers; a checkout keeps it with its examples."""
