"""The command `compare`."""

from pathlib import Path
from typing import Annotated

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import Output, refuse_existing


def compare(
    before: Annotated[Path, tyro.conf.arg(metavar="BEFORE")],
    after: Annotated[Path, tyro.conf.arg(metavar="AFTER")],
    more: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="MORE")] = (),
    /,
    *,
    output: Output,
    overwrite: bool = False,
) -> int:
    """Write a page on which recordings are compared by ear: one file, for any browser, which needs no network.

    Its player switches between versions at the same sample and at the same loudness, repeats a region, shows
    spectrograms, and has a blind test. The recordings are in the page, without loss, so it can be sent to others. Files
    of folders are paired by their path below them, without suffix; what has no counterpart, or another rate or length,
    is named and left out, and the exit code is then 1.

    Example:
        sottovoce compare interview.wav clear.wav -o comparison.html
        sottovoce compare recordings/ enhanced/ -o comparison.html

    Args:
        before: A recording, or a folder of recordings.
        after: Its enhanced version, or a folder of these.
        more: Further versions, e.g. of other models.
        output: Page to write (.html).
        overwrite: Replace an existing page.
    """
    from sottovoce.service.comparison import labels_of, match, write_page

    refuse_existing(output, overwrite=overwrite)
    inputs = (before, after, *more)
    recordings, problems = match(inputs)
    with interruption.noted(lambda: "no page was written"), terminal.progress() as show:
        written = write_page(
            output,
            labels_of(inputs),
            recordings,
            overwrite=overwrite,
            progress=lambda done, total: show("encoding", done, total),
        )
    problems += written.problems
    for problem in problems:
        terminal.warn(f"left out: {problem}")
    count = "1 recording" if written.recordings == 1 else f"{written.recordings} recordings"
    terminal.say(f"Wrote {output}: {count}, {written.size / 1e6:.1f} MB.")
    return 1 if problems else 0
