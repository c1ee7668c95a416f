"""Speech enhancement that learns from the recordings people have.

    import sottovoce
    enhanced = sottovoce.enhance(waveform, sample_rate)

Everything here loads when it is first used: importing the package costs nothing.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

# onnxruntime's builds send usage reports to their maker, unless this is switched off before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.engine.enhancer import Enhancer, Stream
    from sottovoce.engine.options import EnhanceKeywords, EnhanceOptions

__version__ = "0.1.0"
__all__ = ["EnhanceOptions", "Enhancer", "Stream", "__version__", "enhance", "load"]

_default: "Enhancer | None" = None


def load(model: Path | str = "default") -> "Enhancer":
    """Load a model: short for `Enhancer.from_pretrained`.

    Args:
        model: Name of a bundled model, "default" or "live"; or a model file or the file of a place, or the folder that
            `sottovoce train` or `sottovoce adapt` wrote. torch is not needed.

    Returns:
        An enhancer, to be used for any number of recordings and streams.

    Raises:
        ModelError: The file is missing, foreign, cut or of another format version.
    """
    from sottovoce.engine.enhancer import Enhancer

    return Enhancer.from_pretrained(model)


def enhance(
    waveform: "NDArray[np.floating]", sample_rate: int, **options: "Unpack[EnhanceKeywords]"
) -> "NDArray[np.float32]":
    """Give back the speech of a recording, with the bundled default model.

    Args:
        waveform: Samples `(T,)` or `(C, T)`, full scale ±1.
        sample_rate: Rate in Hz; any.
        **options: The fields of `EnhanceOptions`: `limit_db`, `mix`, `full_band`, `linked`, `room`, `removed`.

    Returns:
        Float32 samples of the same shape, aligned to the input.

    Raises:
        TypeError: It is no numpy array.
        ValueError: The array has no or more than two dimensions or no floating-point samples, or an argument is out of
            its range.
    """
    global _default  # noqa: PLW0603 (a cache: loading the model takes longer than enhancing a sentence)
    if _default is None:
        _default = load()
    return _default.enhance(waveform, sample_rate, **options)


def __getattr__(name: str) -> Any:
    if name in ("Enhancer", "EnhanceOptions", "Stream"):
        from sottovoce.engine import enhancer

        return getattr(enhancer, name)
    raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
