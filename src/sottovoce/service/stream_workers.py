"""Processes that work on live streams, so that all cores are used and the event loop only receives and sends."""

import asyncio
import contextlib
import itertools
import logging
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, cast

from sottovoce.engine.enhancer import Enhancer
from sottovoce.errors import SottovoceError
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.stream_work import StreamOrder, packed, unpacked

log = logging.getLogger(__name__)

# Started like this, a process does not run the main program of this one again.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from sottovoce.service.stream_work import serve; serve()"
_END_SECONDS = 2.0
# Models that a process keeps; those of open streams stay in any case.
_MAX_MODELS = 16


class StreamWorkers:
    """Processes that share the streams; each is started when it is needed.

    Args:
        count: The most processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []
        self._starting = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self, enhancer: Enhancer, order: StreamOrder) -> "AsyncIterator[RemoteStream]":
        """Begin a stream in the process that has the fewest channels.

        Args:
            enhancer: The engine.
            order: What is to be done.

        Yields:
            The stream.

        Raises:
            ServiceError: The process does not start, or ends.
        """
        worker = await self._least_busy()
        worker.channels += order.channels
        stream = RemoteStream(worker)
        try:
            await stream.begin(enhancer, order)
            yield stream
        finally:
            worker.channels -= order.channels
            stream.end()

    async def stop(self) -> None:
        """End the processes."""
        async with self._starting:
            await asyncio.gather(*(worker.stop() for worker in self._workers))
            self._workers = []

    async def _least_busy(self) -> "_Worker":
        async with self._starting:
            self._workers = [worker for worker in self._workers if worker.is_running]
            if len(self._workers) < self._count and all(worker.channels for worker in self._workers):
                self._workers.append(await _Worker.started())
            return min(self._workers, key=lambda worker: worker.channels)


class RemoteStream:
    """A stream in another process, which one task uses.

    Args:
        worker: The process.

    Attributes:
        latency_seconds: Algorithmic latency, as of the engine's stream.
    """

    _numbers = itertools.count()

    def __init__(self, worker: "_Worker") -> None:
        self.latency_seconds = 0.0
        self._worker = worker
        self._number = next(self._numbers)

    async def begin(self, enhancer: Enhancer, order: StreamOrder) -> None:
        """Make the stream."""
        self._worker.load(self._number, order.model, enhancer)
        self.latency_seconds = await self._worker.ask(self._number, "begin", order)

    async def push(self, samples: bytes) -> bytes:
        """Take samples, and give those that are ready.

        Args:
            samples: Whole samples of each channel, in the stream's format.

        Returns:
            Enhanced samples in the same format.

        Raises:
            ServiceError: The network fails, or the process has ended.
        """
        enhanced: bytes = await self._worker.ask(self._number, "push", samples)
        return enhanced

    async def flush(self) -> bytes:
        """End the signal, give what was still on its way, and be as new.

        Raises:
            ServiceError: The network fails, or the process has ended.
        """
        enhanced: bytes = await self._worker.ask(self._number, "flush", None)
        return enhanced

    def end(self) -> None:
        """Forget the stream."""
        self._worker.tell(self._number, "end", None)


class _Worker(asyncio.SubprocessProtocol):
    """One process, seen from here."""

    def __init__(self) -> None:
        self.channels = 0
        self._enhancers: OrderedDict[str, Enhancer] = OrderedDict()
        self._received = bytearray()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._exited = asyncio.get_running_loop().create_future()

    @classmethod
    async def started(cls) -> "_Worker":
        # What compiled code prints when it ends the process is of no use to anybody here.
        _, worker = await asyncio.get_running_loop().subprocess_exec(
            cls,
            *(sys.executable, "-c", _PROGRAM.format(path=sys.path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return worker

    @property
    def is_running(self) -> bool:
        return not self._exited.done()

    def load(self, number: int, name: str, enhancer: Enhancer) -> None:
        """Send a model, unless the process has it; it keeps those that were used last."""
        if self._enhancers.get(name) is not enhancer:
            self._enhancers[name] = enhancer
            self.tell(number, "load", (name, enhancer))
        self._enhancers.move_to_end(name)
        if len(self._enhancers) > _MAX_MODELS:
            self.tell(number, "unload", self._enhancers.popitem(last=False)[0])

    def tell(self, number: int, kind: str, content: object) -> None:
        # Each stream waits for its answer before it says more, which bounds what lies here.
        if self.is_running:
            self._tasks.write(packed((number, kind, content)))

    async def ask(self, number: int, kind: str, content: object) -> Any:
        if not self.is_running:
            raise _ended()
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.tell(number, kind, content)
            return await answer
        finally:
            del self._waiting[number]

    async def stop(self) -> None:
        self._tasks.close()
        await asyncio.wait({self._exited}, timeout=_END_SECONDS)
        if self.is_running:
            self.process.kill()
        await self._exited

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the process, and the pipe to it."""
        self.process = cast(asyncio.SubprocessTransport, transport)
        self._tasks = cast(asyncio.WriteTransport, self.process.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Pass answers on."""
        self._received += data
        for number, content in itertools.chain.from_iterable(unpacked(self._received)):
            answer = self._waiting.get(number)
            if answer is None or answer.done():  # its stream has ended
                continue
            if isinstance(content, SottovoceError):
                answer.set_exception(service_error(content))
            elif isinstance(content, Exception):
                answer.set_exception(content)
            else:
                answer.set_result(content)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the process has ended, after all that it has said was passed on."""
        code = self.process.get_returncode()
        if code:
            log.error("a process of live streams has ended with %d", code)
        self.process.close()
        self._exited.set_result(None)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_ended())


def _ended() -> ServiceError:
    return ServiceError(500, "internal", "the process of the stream has ended: connect again")
