"""Processes that work for this one, so that a crash takes one recording and not all of them."""

import contextlib
import logging
import os
import pickle
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import IO, Any, NoReturn, Self, TypeVar, cast

# Started like this, a process does not run the main program of this one again.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from sottovoce.engine.workers import serve; serve({leads}, {niceness})"
# A process that was asked to end, and is not within compiled code, takes as long as a block.
_END_SECONDS = 2.0


T = TypeVar("T")


class WorkerDiedError(Exception):
    """A process ended while it worked; its message says how."""


class Workers:
    """A pool of processes, as a context manager; one that dies is replaced.

    They are started when they are needed, and cost the memory of a process each.

    Args:
        engine: What each of them gets once, for all functions that it calls: an enhancer, or several.
        single_use: Whether a process ends after one call, and takes along, whenever it ends, those that it has started
            itself: for work that takes much memory, or processes of its own.
        niceness: By how much others go first, as of `nice`; without effect on Windows.
    """

    def __init__(self, engine: object, *, single_use: bool = False, niceness: int = 0) -> None:
        self._single_use = single_use
        self._niceness = niceness
        # They log as this process does.
        level = logging.getLogger("sottovoce").getEffectiveLevel()
        self._greeting = pickle.dumps((engine, level))
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def call(
        self,
        function: Callable[..., T],
        *arguments: object,
        advance: Callable[[Any], None],
        on_start: "Callable[[Kill], None] | None" = None,
    ) -> T:
        """Call a function in a process that is idle, or in a new one.

        Args:
            function: A function of a module, which takes the engine, the arguments, and `advance` by name.
            *arguments: What can be pickled.
            advance: Called here with what the function calls it there.
            on_start: Called here before the function is, with what ends the process at once from any thread.

        Returns:
            What the function returns.

        Raises:
            WorkerDiedError: The process ended in the meantime.
            Exception: What the function raises.
        """
        worker = self._take()
        kill = Kill(worker)
        try:
            if on_start is not None:
                on_start(kill)
            outcome: T = worker.call(function, arguments, advance)
        except _FunctionError as error:
            self._give_back(worker, kill)
            raise error.cause from None
        except BaseException:
            # What was begun is not finished, so that nothing else can be asked of it.
            kill.expire()
            self._end([worker])
            raise
        self._give_back(worker, kill)
        return outcome

    def stop(self) -> None:
        """End all processes; what they were within leaves nothing half-written behind."""
        with self._lock:
            workers, self._all = self._all, []
        self._end(workers)

    def _take(self) -> "_Worker":
        with contextlib.suppress(queue.Empty):
            worker = self._idle.get_nowait()
            if worker.is_running:
                return worker
            self._end([worker])
        worker = _Worker(self._greeting, leads=self._single_use, niceness=self._niceness)
        with self._lock:
            self._all.append(worker)
        return worker

    def _give_back(self, worker: "_Worker", kill: "Kill") -> None:
        if kill.expire() or self._single_use:
            self._end([worker])
        else:
            self._idle.put(worker)

    def _end(self, workers: "list[_Worker]") -> None:
        with self._lock:
            self._all = [worker for worker in self._all if worker not in workers]
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end()


class Kill:
    """Ends the process of one call at once, and does nothing after that call, when the process may have another.

    Args:
        worker: The process.
    """

    def __init__(self, worker: "_Worker") -> None:
        self._worker: _Worker | None = worker
        self._is_done = False
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """End the process, if the call has not ended."""
        with self._lock:
            if self._worker is not None:
                self._worker.kill()
                self._is_done = True

    def expire(self) -> bool:
        """Note that the call has ended, and say whether the process was ended before."""
        with self._lock:
            self._worker = None
            return self._is_done


class _FunctionError(Exception):
    """What a function in a worker has raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class _Worker:
    """One process, seen from here; it may lead a group, of those that it starts itself."""

    def __init__(self, greeting: bytes, *, leads: bool, niceness: int) -> None:
        import subprocess  # here, since a single recording needs none

        # What compiled code prints when it ends the process is of no use to anybody here.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path, leads=leads, niceness=niceness)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0 if leads and hasattr(os, "killpg") else None,
        )
        self._leads = leads
        self._tasks = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)
        self._greeting = greeting

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def call(self, function: Callable[..., Any], arguments: tuple[object, ...], advance: Callable[[Any], None]) -> Any:
        try:
            self._tasks.write(self._greeting + pickle.dumps((function, arguments)))
            self._tasks.flush()
            self._greeting = b""
            while True:
                kind, content = pickle.load(self._answers)
                if kind == "advance":
                    advance(content)
                elif kind == "log":
                    name, level, message = content
                    logging.getLogger(name).log(level, "%s", message)
                elif kind == "error":
                    raise _FunctionError(content)
                else:
                    return content
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
            raise WorkerDiedError(_cause_of_death(self._process.wait())) from error

    def kill(self) -> None:
        if self._leads and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def ask_to_end(self) -> None:
        self._process.terminate()

    def end(self) -> None:
        import subprocess

        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            self._tasks.close()
        self._answers.close()


def _cause_of_death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code}, {signal.strsignal(-code)}"
    except ValueError:
        return f"signal {-code}"


def serve(leads: bool = False, niceness: int = 0) -> None:
    """Be a worker: take functions from standard input and answer on standard output until the input ends.

    Args:
        leads: Whether to end within a function, too, when the process ends that this one works for, and with all
            processes that this one has started.
        niceness: By how much others go first.
    """
    heed_signals()
    if niceness and hasattr(os, "nice"):  # before compiled code starts its threads
        os.nice(niceness)
    if not leads or not hasattr(os, "killpg"):
        _work_off_tasks()
        return
    threading.Thread(target=_end_group_without, args=(sys.stdin.fileno(),), daemon=True).start()
    try:
        _work_off_tasks()
    finally:
        _end_group()


def _end_group_without(tasks: int) -> None:
    """Wait until nobody can send tasks any more, and end this process with those that it has started."""
    poll = select.poll()
    poll.register(tasks, 0)  # a closed pipe is always reported, and nothing else is wanted
    poll.poll()
    _end_group()


def _end_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _work_off_tasks() -> None:
    tasks = sys.stdin.buffer
    # Compiled code that prints something would print it between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    engine, level = pickle.load(tasks)

    def answer(kind: str, content: object) -> None:
        answers.write(pickle.dumps((kind, content)))
        answers.flush()

    log = logging.getLogger("sottovoce")
    log.setLevel(level)
    log.addHandler(_Forwarding(answer))
    while True:
        try:
            function, arguments = pickle.load(tasks)
        except EOFError:
            return
        try:
            content = function(engine, *arguments, advance=lambda done: answer("advance", done))
        except Exception as error:
            answer("error", error)
        else:
            answer("result", content)


class _Forwarding(logging.Handler):
    """Sends messages to the process that this one works for."""

    def __init__(self, answer: Callable[[str, object], None]) -> None:
        super().__init__()
        self._answer = answer

    def emit(self, record: logging.LogRecord) -> None:
        self._answer("log", (record.name, record.levelno, record.getMessage()))


def heed_signals() -> None:
    """Ctrl-C is for the process that this one works for, which then ends this one."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
