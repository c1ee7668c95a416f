"""What commands show on a terminal, and the keys that they read from it."""

import contextlib
import io
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sottovoce.errors import printable
from sottovoce.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sottovoce.engine.live import Relay


def warn(sentence: str) -> None:
    """Print a sentence about what went wrong, or what to know, to standard error.

    Args:
        sentence: It may hold names from anybody; what would act on the terminal is escaped.
    """
    print(f"sottovoce: {printable(sentence)}", file=sys.stderr)


def print_line(line: str) -> None:
    """Print a line to standard output, at once.

    Args:
        line: It may hold names from anybody; what would act on the terminal is escaped.
    """
    print(printable(line), flush=True)


def print_table(rows: Sequence[Sequence[str]], *, title: str) -> None:
    """Print a table to standard output.

    Args:
        rows: Cells, the heading first.
        title: What stands above it.
    """
    from rich.console import Console
    from rich.table import Table

    heading, *lines = ([printable(cell) for cell in cells] for cells in rows)
    table = Table(*heading, title=printable(title))
    for cells in lines:
        table.add_row(*cells)
    # Brackets and colons in names are no markup.
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as capture:  # printed by rich, a closed pipe would end the process
        console.print(table)
    print(capture.get(), end="", flush=True)


class _Sentences(logging.Formatter):
    """Messages whose names do not act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


QUIET, NORMAL, VERBOSE = range(3)
_verbosity = NORMAL


def set_verbosity(verbosity: int) -> None:
    """Choose how much a command says beside its result.

    Args:
        verbosity: `QUIET` for errors alone, `NORMAL`, or `VERBOSE` for every step.
    """
    global _verbosity  # noqa: PLW0603 (a process has one terminal)
    _verbosity = verbosity
    log = logging.getLogger("sottovoce")
    log.setLevel({QUIET: logging.ERROR, NORMAL: logging.WARNING, VERBOSE: logging.INFO}[verbosity])


def say_every_step() -> None:
    """Say what a long command finds, unless it is to be quiet."""
    if _verbosity != QUIET:
        set_verbosity(VERBOSE)


def say(sentence: str, *, to_stderr: bool = False) -> None:
    """Print what a command has done, unless it is to be quiet.

    Args:
        sentence: It may hold names from anybody.
        to_stderr: Print to standard error, where standard output is for sound or JSON, or for what is worth knowing.
    """
    if _verbosity == QUIET:
        return
    if to_stderr:
        warn(sentence)
    else:
        print_line(sentence)


def print_json(content: Any) -> None:
    """Print a result for programs: paths as text, and null for numbers that are not finite.

    Args:
        content: Dictionaries, lists, numbers, text and paths.
    """
    import json

    print(json.dumps(_plain(content), indent=2))


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(name): _plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Print what the package logs to standard error, one sentence each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Sentences("sottovoce: %(message)s"))
    with _handled_by(handler):
        yield


@contextlib.contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[None]:
    log = logging.getLogger("sottovoce")
    before, log.handlers = log.handlers, [handler]
    try:
        yield
    finally:
        log.handlers = before


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Give what draws a bar per task on a terminal, or else writes lines.

    Warnings of the package go above the bars, or to stderr where there is no terminal.
    """
    if _verbosity == QUIET or not sys.stderr.isatty():
        # A log, perhaps: rich is not even imported.
        with sentences():
            yield silent if _verbosity == QUIET else ProgressLines()
        return

    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    screen = Console(stderr=True)
    handler = RichHandler(console=screen, show_path=False, show_time=False)
    handler.setFormatter(_Sentences("%(message)s"))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeLeftColumn(),
    )
    with (
        _handled_by(handler),
        Bars(*columns, console=screen, refresh_per_second=4, speed_estimate_period=120) as bars,
    ):
        tasks: dict[str, TaskID] = {}

        def show(task: str, done: float, total: float, note: str = "") -> None:
            note = note or f"{done} of {total}"
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, note=note)
            bars.update(tasks[task], completed=done, total=total, note=note)

        yield show


def silent(task: str, done: float, total: float, note: str = "") -> None:
    """Say nothing."""


class ProgressLines:
    """Progress where there is no terminal, such as in a log: a line for a task of more than 5 s, then one a minute.

    Args:
        clock: Gives the time in seconds.
    """

    _FIRST_SECONDS, _INTERVAL_SECONDS = 5.0, 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, float]] = {}
        self._next: dict[str, float] = {}

    def __call__(self, task: str, done: float, total: float, note: str = "") -> None:
        """Write a line to stderr if it is time."""
        now = self._clock()
        since, at_first = self._began.get(task, (now, done))
        if task not in self._began or done < at_first:  # the same task may begin again
            self._began[task] = since, at_first = now, done
            self._next[task] = now + self._FIRST_SECONDS
        if now < self._next[task] or not at_first < done < total:
            return
        self._next[task] = now + self._INTERVAL_SECONDS
        left = (now - since) / (done - at_first) * (total - done)
        warn(f"{task} {done / total:.0%} ({note or f'{done} of {total}'}), {duration(left)} left")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, for people."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


@contextlib.contextmanager
def own_words_only() -> Iterator[None]:
    """Keep what libraries write past Python about their inner troubles away from standard error; Python's own stays."""
    descriptor = 2
    if sys.stderr is None or not _writes_to(sys.stderr, descriptor):
        yield
        return
    sys.stderr.flush()
    ours = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    before = sys.stderr
    try:
        os.dup2(nowhere, descriptor)
        sys.stderr = os.fdopen(ours, "w", buffering=1, encoding=before.encoding, errors=before.errors, closefd=False)
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(ours, descriptor)
        os.close(ours)
        os.close(nowhere)


def _writes_to(file: TextIO, descriptor: int) -> bool:
    try:
        return file.fileno() == descriptor
    except OSError:  # it is none of the system's
        return False


@contextlib.contextmanager
def keys() -> Iterator[Callable[[], str]]:
    """Give a function that waits for a twentieth of a second, and returns the key that was pressed, or nothing."""
    pause_seconds = 0.05
    try:
        import termios
        import tty
    except ImportError:  # Windows
        import msvcrt

        def next_key_of_windows() -> str:
            time.sleep(pause_seconds)
            return msvcrt.getwch() if msvcrt.kbhit() else ""  # type: ignore[attr-defined,no-any-return,unused-ignore]

        yield next_key_of_windows
        return
    if not sys.stdin.isatty():

        def no_key() -> str:
            time.sleep(pause_seconds)
            return ""

        yield no_key
        return

    import select

    def next_key() -> str:
        if not select.select([sys.stdin], [], [], pause_seconds)[0]:
            return ""
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace")

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield next_key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def meters() -> Iterator[Callable[["Relay"], None]]:
    """Give a function that draws levels on a terminal, and does nothing elsewhere."""
    if not sys.stdout.isatty():
        yield lambda relay: None
        return

    from rich.live import Live as Screen
    from rich.text import Text

    floor_db, width = -60, 40

    def bar(name: str, level_db: float) -> str:
        filled = round(width * min(1.0, max(0.0, 1 - level_db / floor_db)))
        return f"{name:<8}{'█' * filled:<{width}} {max(level_db, floor_db):4.0f} dBFS\n"

    def show(relay: "Relay") -> None:
        state = "bypassed: b enhances again" if relay.bypass else "b bypasses"
        screen.update(Text(bar("before", relay.before_db) + bar("after", relay.after_db) + f"{state}, q ends"))

    with Screen(refresh_per_second=10) as screen:
        yield show


def unbuffered(file: TextIO) -> io.FileIO:
    """The bytes of a standard stream: a block waits for no other, and none is left when its reader is gone."""
    descriptor = file.fileno()
    # Some programs leave their pipes so that a read without data looks like the end.
    if os.name == "posix":
        os.set_blocking(descriptor, True)
    return io.FileIO(descriptor, "r" if file.readable() else "w", closefd=False)
