"""How long work reports its progress."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol


class Progress(Protocol):
    """Called now and then with the state of a task: the worker names the task, the caller shows it."""

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
    """Report a task of several seconds that cannot say how far it is.

    Args:
        task: What is done inside.
        progress: Called with 0 of 1 at its beginning, 1 of 1 at its end; None for nowhere.
    """
    if progress is not None:
        progress(task, 0, 1)
    yield
    if progress is not None:
        progress(task, 1, 1)
