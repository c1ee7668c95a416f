"""Functions of modules, called in other processes: several at once, and a crash is an answer."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeVar

from sottovoce.engine.workers import WorkerDiedError

T = TypeVar("T")
Thing = TypeVar("Thing")
Advance = Callable[[float], None]
"""Takes what was done since it was called last."""


class Processes(Protocol):
    """What calls functions in other processes, such as `engine.workers.Workers`."""

    def call(self, function: Callable[..., T], *arguments: object, advance: Advance) -> T:
        """Call a function in an idle process.

        Raises:
            WorkerDiedError: The process ended in the meantime.
        """

    def stop(self) -> None:
        """End all processes."""


class ThisProcess:
    """Calls functions in this process, for what no other one sees.

    Args:
        engine: What all functions get: an enhancer.
    """

    def __init__(self, engine: object) -> None:
        self._engine = engine

    def call(self, function: Callable[..., T], *arguments: object, advance: Advance) -> T:
        """Call a function here."""
        return function(self._engine, *arguments, advance=advance)

    def stop(self) -> None:
        """Do nothing: the functions end at their next word."""


class _CancelledError(Exception):
    """The run ends before its time."""


class Pool:
    """So many calls at once, as a context manager; left by an exception, it ends what is being worked on.

    Args:
        processes: Where the functions are called.
        jobs: How many at once.
        on_advance: Called with what a function has done, by one thread at a time; with less than 0 for work that is
            lost, as its process has died.
    """

    def __init__(self, processes: Processes, jobs: int, on_advance: Advance | None = None) -> None:
        self.jobs = jobs
        self._processes = processes
        self._on_advance = on_advance
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            # Ctrl-C reaches the main thread only: the others stop at their next word from a process, or with it.
            self._cancelled.set()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._processes.stop()
        self._threads.shutdown()
        self._processes.stop()

    def submit(self, function: Callable[..., T], *arguments: object) -> "Future[T]":
        """Have a function of this process called by a thread, which may `call` others in other processes.

        Args:
            function: Any function.
            *arguments: Its arguments.

        Returns:
            What gives its result.
        """
        return self._threads.submit(function, *arguments)

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in another process, and wait for it.

        Args:
            function: A function of a module, which takes what the processes were given, the arguments, and `advance`.
            *arguments: What can be pickled.

        Returns:
            What it returns.

        Raises:
            WorkerDiedError: The process ended in the meantime.
        """
        done = 0.0

        def advance(step: float) -> None:
            nonlocal done
            done += step
            self._advance(step)

        self._refuse_cancelled()
        try:
            return self._processes.call(function, *arguments, advance=advance)
        except WorkerDiedError:
            self._refuse_cancelled()
            self._advance(-done)
            raise

    def _advance(self, step: float) -> None:
        self._refuse_cancelled()
        if self._on_advance is not None:
            with self._lock:
                self._on_advance(step)

    def _refuse_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def in_order(self, function: Callable[[Thing], T], things: Iterable[Thing]) -> Iterator[T]:
        """Give the results of a function in the order of what it is given, of which few at a time are in memory.

        Args:
            function: Any function; see `submit`.
            things: What it takes, one at a time.

        Yields:
            What it returns.
        """
        waiting: deque[Future[T]] = deque()
        for thing in things:
            waiting.append(self.submit(function, thing))
            if len(waiting) > 2 * self.jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
