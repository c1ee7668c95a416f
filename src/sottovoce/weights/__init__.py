"""The bundled default model: what `sottovoce enhance` uses, and what later training starts from."""

from pathlib import Path

DEFAULT_MODEL = Path(__file__).parent / "default.onnx"
"""The exported model."""

DEFAULT_CHECKPOINT = Path(__file__).parent / "default.safetensors"
"""Its training checkpoint at half precision."""
