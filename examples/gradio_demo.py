"""A page for trying Sotto voce, on this machine: `pip install gradio`, then `python examples/gradio_demo.py`."""

from pathlib import Path

import gradio as gr
import numpy as np

import sottovoce
from sottovoce.errors import SottovoceError
from sottovoce.signal import audio


def enhance(recording: str | None, limit_db: float) -> tuple[int, np.ndarray]:
    """Give rate and 16-bit samples `(samples, channels)` of an enhanced file."""
    if recording is None:
        raise gr.Error("Choose a recording, or record something.")
    try:
        waveform, rate = audio.read(Path(recording))
        enhanced = sottovoce.enhance(waveform, rate, limit_db=limit_db)
    except SottovoceError as error:
        raise gr.Error(str(error)) from error
    return rate, np.rint(2**15 * enhanced.T).clip(-(2**15), 2**15 - 1).astype(np.int16)


before, after = gr.Audio(label="Before", type="filepath"), gr.Audio(label="After")
strength = gr.Slider(0, 60, 40, step=1, label="Strength: remove at most so many dB")
examples = [[str(path), 40] for path in sorted((Path(__file__).parent / "real").glob("*.flac"))]
gr.Interface(
    enhance, [before, strength], after, examples=examples, flagging_mode="never", analytics_enabled=False
).launch()
