"""What comes along: the default model, its training checkpoint, and clean speech to adapt it with."""

from pathlib import Path

DEFAULT_MODEL = Path(__file__).parent / "default.onnx"
"""The exported model."""

DEFAULT_CHECKPOINT = Path(__file__).parent / "default.safetensors"
"""Its training checkpoint at half precision."""

DEFAULT_SPEECH = Path(__file__).parent / "speech"
"""Folder of clean speech, an utterance each of many talkers."""
