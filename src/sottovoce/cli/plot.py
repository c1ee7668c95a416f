"""The command `plot`."""

from pathlib import Path
from typing import Annotated

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output, refuse_existing
from sottovoce.errors import AudioError
from sottovoce.extras import require


def plot(
    before: Annotated[Path, tyro.conf.arg(metavar="BEFORE")],
    after: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="AFTER")] = (),
    /,
    *,
    output: Output,
    overwrite: bool = False,
) -> int:
    """Draw waveforms and spectrograms of recordings side by side, on shared scales.

    Of a recording with several channels the first is drawn. What cannot be read is named and left out, and the exit
    code is then 1.

    Example:
        sottovoce plot noisy.wav enhanced.wav -o picture.png

    Args:
        before: A recording.
        after: More of them, e.g. enhanced by several models.
        output: Picture to write; the suffix chooses the format (.png, .pdf, .svg).
        overwrite: Replace an existing picture.
    """
    require("metrics", "Plotting", "matplotlib")
    with interruption.ending_at_once():
        from sottovoce.metrics import plots
    from sottovoce.signal.audio import read

    refuse_existing(output, overwrite=overwrite)
    signals, problems = [], []
    for path in (before, *after):
        try:
            waveform, rate = read(path)
        except AudioError as error:
            problems.append(error)
            continue
        # The folder sets noisy/1.wav apart from enhanced/1.wav.
        signals.append(("/".join(path.parts[-2:]), waveform[0], rate))
    if not signals:
        raise problems[0]
    for problem in problems:
        terminal.warn(f"left out: {problem}")
    plots.save(plots.recordings(signals), output, overwrite=overwrite)
    return 1 if problems else 0
