"""Signals that ask a process to end: SIGINT (Ctrl-C), SIGTERM (a service manager), SIGHUP (a closed terminal)."""

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

# Windows has no SIGHUP.
_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# `timeout` sends a signal to a process and to its group: that is one request.
_SAME_REQUEST_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 0.5

Handler = Callable[[int, FrameType | None], Any]


class Interruption(KeyboardInterrupt):
    """The process was asked to end; its notes say what was saved.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What a shell expects of a process that a signal has ended: 128 and the signal's number."""
    return 128 + (interruption.number if isinstance(interruption, Interruption) else signal.SIGINT)


@contextlib.contextmanager
def raised(numbers: Iterable[int] = _NUMBERS) -> Iterator[None]:
    """Inside, a signal raises an `Interruption`; if that gets lost, it is raised at the end.

    Finalisers, callbacks from compiled code and broad `except` clauses of libraries swallow it, or make another error
    of it.

    Args:
        numbers: The signals.
    """
    request = _Request()

    def handle(number: int, _: FrameType | None) -> None:
        if (interruption := request.note(number)) is not None:
            raise interruption

    token = _request.set(request)
    try:
        with _handled_by(handle, numbers), _never_lost():
            yield
    finally:
        _request.reset(token)


def raise_lost(cause: BaseException | None = None) -> None:
    """Raise what a signal has raised before, within `raised`, if there was one: whoever goes on to work has lost it.

    Args:
        cause: What has become of it.

    Raises:
        Interruption: A signal has come.
    """
    request = _request.get()
    if request is not None and request.interruption is not None:
        raise request.interruption from cause


@contextlib.contextmanager
def accepted() -> Iterator[None]:
    """Inside, an interruption is how the user ends the block, and what follows goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if (request := _request.get()) is not None:
            request.interruption = None


@contextlib.contextmanager
def ending_at_once(saved: str = "") -> Iterator[None]:
    """Inside, one of these signals ends the process with a sentence: for imports, in which exceptions get lost.

    Args:
        saved: What is saved and how to go on, half a sentence, or nothing.
    """
    sentence = f"sottovoce: {': '.join(filter(None, ['interrupted', saved]))}\n".encode(errors="backslashreplace")

    def handle(number: int, _: FrameType | None) -> NoReturn:
        # Not through the stream's buffer, within which the signal may have come.
        os.write(2 if sys.stderr is None else sys.stderr.fileno(), sentence)
        os._exit(128 + number)

    with _handled_by(handle):
        yield


@contextlib.contextmanager
def noted(saved: Callable[[], str]) -> Iterator[None]:
    """Inside, an interruption gets a note; if it gets lost, it is raised at the end.

    Args:
        saved: Gives what was saved and how to go on, half a sentence, or nothing.
    """
    try:
        with _never_lost():
            yield
    except KeyboardInterrupt as interruption:
        if note := saved():
            interruption.add_note(note)
        raise


@contextlib.contextmanager
def _never_lost() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise_lost(error)
        raise
    raise_lost()


class _Request:
    """What the signals that came ask for.

    Attributes:
        interruption: What the latest signal raises, or None; it keeps the notes that it got before it was lost.
    """

    def __init__(self) -> None:
        self.interruption: Interruption | None = None
        self._came_at = -math.inf

    def note(self, number: int) -> Interruption | None:
        """Give what a signal raises: nothing if it is the echo of the one before."""
        now = time.monotonic()
        if now - self._came_at <= _SAME_REQUEST_SECONDS:
            return None
        self.interruption, self._came_at = Interruption(number), now
        return self.interruption


# That of the innermost `raised`; other threads, to which no signal comes, have none.
_request: ContextVar[_Request | None] = ContextVar("request", default=None)


class Deferred:
    """A block in which a signal is noted, and has its effect at the end; a Ctrl-C that follows has it at once."""

    def __init__(self) -> None:
        self._request = _Request()
        self._before: dict[int, Any] = {}

    @property
    def is_requested(self) -> bool:
        """Whether a signal has come: the block should end soon."""
        return self._request.interruption is not None

    def __enter__(self) -> Self:
        """Note signals from now on.

        Raises:
            Interruption: A signal came before, and what it raised got lost.
        """
        raise_lost()
        self._before = _handlers()
        self.heed()
        return self

    def heed(self) -> None:
        """Note signals again, after other code has put its handlers in place."""
        _set(dict.fromkeys(self._before, self._note))

    def _note(self, number: int, _: FrameType | None) -> None:
        is_second = self.is_requested
        interruption = self._request.note(number)
        if interruption is not None and is_second and number == signal.SIGINT:
            raise interruption

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Let the signal that came have the effect that it would have had.

        Raises:
            Interruption: A signal came, and its handler has raised nothing.
        """
        _set(self._before)
        # An error of its own is worth more; an exit is what other code makes of a Ctrl-C.
        interruption = self._request.interruption
        if interruption is not None and not isinstance(error, Exception):
            signal.raise_signal(interruption.number)
            raise interruption from error


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Inside, signals wait; a process that is started here gets none until it calls `leave_to_parent`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def process_pool(
    workers: int, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> "ProcessPoolExecutor":
    """Make a pool of spawned processes, to which tasks are submitted while signals are `blocked`.

    "Spawned": the caller may hold threads (a progress bar), with which forking is unsafe.

    Args:
        workers: Number of processes.
        initializer: Called in each of them; it calls `leave_to_parent`, which is the default.
        initargs: Its arguments.

    Returns:
        The pool.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # A process that multiprocessing starts beside them inherits what is blocked. SIGHUP would end it, with a warning.
    with blocked():
        return ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer or leave_to_parent, initargs
        )


def leave_to_parent() -> None:
    """Do nothing when a signal comes, in a process that works for another one, which sees to the end of both."""
    _set(dict.fromkeys(_NUMBERS, signal.SIG_IGN))
    _set({signal.SIGTERM: lambda *_: None})  # not ignored for good: the parent may have it raised in a task
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)


def end_with_parent(parent: int) -> None:
    """End this process at once when the one that has started it is gone, whatever has ended that one.

    Args:
        parent: Its number; it may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _handlers(numbers: Iterable[int] = _NUMBERS) -> dict[int, Any]:
    """The handlers of the signals, without those that nohup, or a shell in the background, has set to be ignored."""
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}


def _set(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():  # others cannot, and receive none
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _handled_by(handler: Handler, numbers: Iterable[int] = _NUMBERS) -> Iterator[None]:
    before = _handlers(numbers)
    _set(dict.fromkeys(before, handler))
    try:
        yield
    finally:
        _set(before)
