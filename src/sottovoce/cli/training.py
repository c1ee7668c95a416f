"""What the commands that train have in common."""

import contextlib
import logging
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from sottovoce import interruption, terminal
from sottovoce.progress import Progress
from sottovoce.training.processes import helping, rank
from sottovoce.training.saved import when_interrupted, when_resumed


def command_line() -> str:
    """The command as it was typed, to be kept in the model."""
    return shlex.join(["sottovoce", *sys.argv[1:]])


@contextlib.contextmanager
def shown(output: Path, processes: int = 1) -> Iterator[Progress | None]:
    """Show the progress of a training; say where it goes on and, when it is interrupted, what is saved.

    Args:
        output: Folder of the run.
        processes: How many train together; the first one alone says something.

    Yields:
        What the training calls with its progress; None in a process that another one has started.
    """
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    if rank(processes):
        logging.getLogger("sottovoce").setLevel(logging.CRITICAL)
        with helping():
            yield None
        return
    if where := when_resumed(output):
        terminal.say(where, to_stderr=True)
    with interruption.noted(lambda: when_interrupted(output)), terminal.progress() as show:
        yield show
