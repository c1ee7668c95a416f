"""Worker processes for the event loop: so many at once, so many that wait, and an end for what gets stuck."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.workers import Kill, WorkerDiedError, Workers
from sottovoce.errors import SottovoceError
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.work import Order, Progress, Result, enhance_upload, warm_up

log = logging.getLogger(__name__)

# A worker says something after every second of sound at most; the longest silence is while a recording is examined.
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.5
# Before any recording was enhanced, one is guessed to take so long.
_GUESSED_SECONDS = 2.0
_MAX_RETRY_SECONDS = 120

T = TypeVar("T")


class Pool:
    """Enhances recordings in worker processes, which are given one after the other in the order of their coming.

    A recording that makes its process crash, or get stuck, is an error; the process is replaced.

    Args:
        enhancers: The engines by name.
        workers: Number of recordings at once.
        queue: Number of recordings that may be admitted beyond those.
        patience_seconds: How long a process may say nothing before it counts as stuck.
        single_use: Whether a process ends after one call, with those that it has started.
        niceness: By how much others go first, such as live streams.
    """

    def __init__(
        self,
        enhancers: Mapping[str, Enhancer],
        *,
        workers: int,
        queue: int = 0,
        patience_seconds: float | None = None,
        single_use: bool = False,
        niceness: int = 0,
    ) -> None:
        self._workers = Workers(dict(enhancers), single_use=single_use, niceness=niceness)
        self._patience_seconds = patience_seconds
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._slots = asyncio.Semaphore(workers)
        self._count = workers
        self._room = workers + queue
        self._running: set[_Call] = set()
        self._typical_seconds = _GUESSED_SECONDS
        self.admitted = 0
        self.is_ready = False
        self.is_stopping = asyncio.Event()

    @property
    def running(self) -> int:
        """Number of recordings that are being enhanced."""
        return len(self._running)

    async def start(self) -> None:
        """Start the processes, so that the first recordings wait for none."""
        await asyncio.gather(*(self._in_thread(warm_up) for _ in range(self._count)))
        self.is_ready = True

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Take a place for a recording, from before it is received until its result is there.

        Raises:
            ServiceError: There is no place, or the service is about to stop.
        """
        if self.is_stopping.is_set():
            raise _stopping()
        if self.admitted >= self._room:
            seconds = min(math.ceil(self._typical_seconds * self.admitted / self._count), _MAX_RETRY_SECONDS)
            raise ServiceError(
                429,
                "busy",
                f"found {self.admitted} recordings at work, expected fewer: try again in {seconds} s",
                {"Retry-After": str(seconds)},
            )
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    async def enhance(self, order: Order, on_progress: Callable[[Progress], None] | None = None) -> Result:
        """Enhance a recording when it is its turn; whoever cancels this ends the process.

        Args:
            order: What is to be done.
            on_progress: Called by another thread with how far it is, after every block.

        Returns:
            The result.

        Raises:
            ServiceError: It cannot be enhanced.
        """
        return await self.run(enhance_upload, order, on_progress)

    async def run(
        self, function: Callable[..., T], order: object, on_progress: Callable[[Any], None] | None = None
    ) -> T:
        """Call a function in a process when it is its turn; whoever cancels this ends the process.

        Args:
            function: A function of a module, which takes the enhancers, the order, and `advance` by name.
            order: What is to be done.
            on_progress: Called by another thread with what the function calls `advance`.

        Returns:
            What the function returns.

        Raises:
            ServiceError: It fails.
        """
        await self._turn()
        try:
            begun = time.monotonic()
            result = await self._in_thread(function, order, on_progress=on_progress)
            self._typical_seconds += 0.1 * (time.monotonic() - begun - self._typical_seconds)
            return result
        except SottovoceError as error:
            raise service_error(error) from error
        finally:
            self._slots.release()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse what waits, let what runs come to its end for some time, and end the processes.

        Args:
            grace_seconds: How long to wait.
        """
        self.is_stopping.set()
        until = time.monotonic() + grace_seconds
        while self._running and time.monotonic() < until:
            await asyncio.sleep(0.05)
        for call in list(self._running):
            call.end(_stopping())
        while self._running:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self._workers.stop)
        self._threads.shutdown()

    async def _turn(self) -> None:
        """Wait for a place among those that run; the caller gives it back."""
        stopping = asyncio.ensure_future(self.is_stopping.wait())
        turn = asyncio.ensure_future(self._slots.acquire())
        try:
            await asyncio.wait({turn, stopping}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            turn.add_done_callback(self._give_back)
            turn.cancel()
            raise
        finally:
            stopping.cancel()
        if self.is_stopping.is_set():
            turn.add_done_callback(self._give_back)
            turn.cancel()
            raise _stopping()

    def _give_back(self, turn: "asyncio.Task[Literal[True]]") -> None:
        if not turn.cancelled():
            self._slots.release()

    async def _in_thread(
        self, function: Callable[..., T], *arguments: object, on_progress: Callable[[Any], None] | None = None
    ) -> T:
        """Call a function in a worker process, without waiting for it in the event loop."""
        call = _Call(on_progress)
        future = asyncio.get_running_loop().run_in_executor(
            self._threads,
            partial(self._workers.call, function, *arguments, advance=call.advance, on_start=call.begin),
        )
        self._running.add(call)
        try:
            while not future.done():
                await asyncio.wait({future}, timeout=_LOOK_SECONDS)
                if call.silent_seconds > (self._patience_seconds or PATIENCE_SECONDS):
                    call.end(_stuck())
            return future.result()
        except WorkerDiedError as error:
            raise call.reason or _crashed(error) from error
        except asyncio.CancelledError:
            call.end(_stopping())
            await asyncio.wait({future})
            future.exception()  # it is that of an end that was wanted
            raise
        finally:
            self._running.discard(call)


class _Call:
    """One call of a worker, seen from the event loop.

    Args:
        on_progress: Called with what the function in the worker says of its progress.

    Attributes:
        reason: Why it was ended, if it was.
    """

    def __init__(self, on_progress: Callable[[Any], None] | None) -> None:
        self.reason: ServiceError | None = None
        self._on_progress = on_progress
        self._kill: Kill | None = None
        self._last_word = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._last_word

    def begin(self, kill: Kill) -> None:
        self._kill = kill
        self._last_word = time.monotonic()
        if self.reason is not None:
            kill()

    def advance(self, done: object) -> None:
        self._last_word = time.monotonic()
        if self._on_progress is not None:
            self._on_progress(done)

    def end(self, reason: ServiceError) -> None:
        self.reason = self.reason or reason
        if self._kill is not None:
            self._kill()


def _stopping() -> ServiceError:
    return ServiceError(
        503, "stopping", "the service is about to stop: send the recording again later", {"Retry-After": "10"}
    )


def _stuck() -> ServiceError:
    return ServiceError(
        422,
        "recording_stuck",
        f"found no end of something in the recording within {PATIENCE_SECONDS:g} s: it may be damaged; convert it with "
        "`ffmpeg -i recording out.wav`",
    )


def _crashed(error: WorkerDiedError) -> ServiceError:
    log.error("a worker ended while it worked: %s", error)
    return ServiceError(
        422,
        "recording_crashed",
        "the recording made the process crash that worked on it: it may be damaged; convert it with `ffmpeg -i "
        "recording out.wav`",
    )
