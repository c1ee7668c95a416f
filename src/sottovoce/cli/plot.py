"""The command `plot`."""

from pathlib import Path
from typing import Annotated

import tyro

from sottovoce.cli.arguments import Output, refuse_existing
from sottovoce.extras import require


def plot(
    before: Annotated[Path, tyro.conf.arg(metavar="BEFORE")],
    after: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="AFTER")] = (),
    /,
    *,
    output: Output,
    overwrite: bool = False,
) -> None:
    """Draw waveforms and spectrograms of recordings side by side, on shared scales.

    Of a recording with several channels the first is drawn.

    Example:
        sottovoce plot noisy.wav enhanced.wav -o picture.png

    Args:
        before: A recording.
        after: More of them, e.g. enhanced by several models.
        output: Picture to write; the suffix chooses the format (.png, .pdf, .svg).
        overwrite: Replace an existing picture.
    """
    require("metrics", "Plotting", "matplotlib")
    from sottovoce.metrics import plots
    from sottovoce.signal.audio import read

    refuse_existing(output, overwrite=overwrite)
    signals = []
    for path in (before, *after):
        waveform, rate = read(path)
        # The folder tells noisy/1.wav from enhanced/1.wav.
        signals.append(("/".join(path.parts[-2:]), waveform[0], rate))
    plots.save(plots.recordings(signals), output, overwrite=overwrite)
