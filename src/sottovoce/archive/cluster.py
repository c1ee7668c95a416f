"""Processes of a Ray cluster, in place of those of this machine."""

import contextlib
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sottovoce.archive.pool import Advance
from sottovoce.archive.results import versions
from sottovoce.engine.workers import WorkerDiedError
from sottovoce.errors import ConfigError, DataError
from sottovoce.extras import require

T = TypeVar("T")

# An actor that was asked to end takes as long as a block.
_END_SECONDS = 10.0

LOCAL = "local"
"""The address of a cluster that consists of this machine, and ends with the run."""


class RayProcesses:
    """Calls functions in actors of a Ray cluster, one core each; one that dies is replaced.

    Args:
        engine: What each of them gets once: an enhancer.
        jobs: Number of actors.
        address: `local`, `auto` for the cluster that this machine belongs to, or `ray://HOST:PORT`.

    Raises:
        ConfigError: There is no cluster, or it has fewer cores than actors.
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, engine: object, jobs: int, address: str) -> None:
        require("cluster", "A Ray cluster", "ray", *(["grpc"] if address.startswith("ray://") else []))
        # It would report its use to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        keywords: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False} if address == LOCAL else {}
        try:
            with _own_signals(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its error says the same
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", **keywords)
        except Exception as error:  # it raises just that where its processes do not start
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"found no Ray cluster at {address} ({reason}): expected local, auto or ray://HOST:PORT"
            ) from error
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < jobs:
            ray.shutdown()
            raise ConfigError(f"found {cores} cores in the cluster at {address}, expected {jobs}: use --jobs {cores}")
        self._engine = ray.put(engine)
        self._make = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=2)(_Actor)  # `end` comes within `call`
        self._versions = versions()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._all: list[Any] = []
        self._lock = threading.Lock()
        self._calls = 0
        self._is_over = False

    def call(self, function: Callable[..., T], *arguments: object, advance: Advance) -> T:
        """Call a function in an actor that is idle, or in a new one.

        Args:
            function: A function of a module, which takes the engine, the arguments, and `advance` by name.
            *arguments: What can be pickled.
            advance: Called once, at the end, with all that the function has called it with.

        Returns:
            What the function returns.

        Raises:
            WorkerDiedError: The actor ended in the meantime.
            DataError: It has other versions of what makes the samples.
            Exception: What the function raises.
        """
        actor = self._take()
        errors = self._ray.exceptions
        try:
            outcome, done = self._ray.get(actor.call.remote(function, arguments))
        except errors.RayTaskError as error:
            self._idle.put(actor)
            raise error.cause from None
        except errors.RayError as error:
            self._end(actor)
            raise WorkerDiedError(f"an actor of the cluster ended, {type(error).__name__}") from error
        finally:
            with self._lock:
                self._calls -= 1
        self._idle.put(actor)
        advance(done)
        result: T = outcome
        return result

    def stop(self) -> None:
        """End all actors; when no thread waits for one any more, leave the cluster, or end it if it began with them."""
        with self._lock:
            actors, self._all, self._is_over = self._all, [], True
            has_calls = self._calls > 0
        with contextlib.suppress(Exception):  # the cluster has ended before
            ends = [actor.end.remote() for actor in actors]
            self._ray.wait(ends, num_returns=max(1, len(ends)), timeout=_END_SECONDS)
        for actor in actors:
            self._end(actor)
        if not has_calls:
            self._ray.shutdown()

    def _take(self) -> Any:
        with self._lock:
            if self._is_over:
                raise WorkerDiedError("the run is over")
            self._calls += 1
            with contextlib.suppress(queue.Empty):
                return self._idle.get_nowait()
            actor = self._make.remote(self._engine, self._versions)
            self._all.append(actor)
            return actor

    def _end(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it has ended before, or the cluster has
            self._ray.kill(actor)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Take back SIGTERM, of which Ray makes the end of the process without another word."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


class _StoppedError(BaseException):
    """The run is over: no failure of what is worked on, so that nobody takes it for one."""


class _Actor:
    """What works in a process of the cluster."""

    def __init__(self, engine: object, expected: dict[str, str]) -> None:
        self._engine = engine
        self._expected = expected
        self._is_over = threading.Event()
        self._is_idle = threading.Event()
        self._is_idle.set()

    def call(self, function: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[Any, float]:
        here = versions()
        for package, version in self._expected.items():
            if here[package] != version:
                raise DataError(
                    f"a machine of the cluster has {package} {here[package]}, this one {version}: install the same "
                    "versions everywhere, since the samples may differ"
                )
        done = 0.0

        def advance(step: float) -> None:
            nonlocal done
            done += step
            if self._is_over.is_set():
                raise _StoppedError

        self._is_idle.clear()
        try:
            advance(0.0)  # it may be over before it began
            return function(self._engine, *arguments, advance=advance), done
        except _StoppedError:
            return None, done
        finally:
            self._is_idle.set()

    def end(self) -> None:
        """Have the call end at its next word, which deletes what it has not finished, and wait for it."""
        self._is_over.set()
        self._is_idle.wait(_END_SECONDS)
