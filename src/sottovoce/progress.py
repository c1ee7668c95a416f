"""How long work says how far it is."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol


class Progress(Protocol):
    """Told now and then how far a task is; who does the work names the task, and who asked for it shows it."""

    def __call__(self, task: str, done: float, total: float, note: str = "") -> None:
        """Take a state.

        Args:
            task: What is done, such as "simulating rooms".
            done: Units that are done.
            total: Units in all.
            note: What to show of both, and what else there is to know; by default the two numbers.
        """


TaskProgress = Callable[[int, int], None]
"""The same of one task: takes what is done and all there is."""


def part(progress: Progress | None, task: str) -> TaskProgress | None:
    """The progress of one task.

    Args:
        progress: Where it goes; None for nowhere.
        task: Its name.

    Returns:
        A function of what is done and all there is; None for nowhere.
    """
    return None if progress is None else lambda done, total: progress(task, done, total)


@contextlib.contextmanager
def named(task: str, progress: Progress | None) -> Iterator[None]:
    """Tell of a task of several seconds that cannot say how far it is.

    Args:
        task: What is done inside.
        progress: Told 0 of 1 at its beginning, 1 of 1 at its end; None for nowhere.
    """
    if progress is not None:
        progress(task, 0, 1)
    yield
    if progress is not None:
        progress(task, 1, 1)
