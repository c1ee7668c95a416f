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
# A process that takes so much of a core gets no more streams, while there may be one that takes less. In use it takes
# twice as much: fewer streams go through the network at once than when it was measured, and their sound is read and
# written as well.
_FULL = 0.25
# Streams at another rate than their model's take so many times as much.
_RESAMPLED_COST = 2.25
# Of streams and other messages.
_numbers = itertools.count()


class StreamWorkers:
    """Processes that share the streams, each of which stays in one.

    The more streams go through the network at once, the less each of them costs. So a process is filled before the next
    one gets any, up to where its blocks would begin to wait for one another.

    Args:
        count: The most processes.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []
        self._placing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self, enhancer: Enhancer, order: StreamOrder) -> "AsyncIterator[RemoteStream]":
        """Begin a stream in the first process that has time for it, or else in the one that has least to do.

        Args:
            enhancer: The engine.
            order: What is to be done.

        Yields:
            The stream.

        Raises:
            ServiceError: The process does not start, or ends.
        """
        async with self._placing:
            worker = await self._with_time_for(order)
            stream = RemoteStream(worker, await worker.prepare(enhancer, order))
            worker.streams.add(stream)
        try:
            await stream.begin(order)
            yield stream
        finally:
            worker.streams.remove(stream)
            stream.end()

    async def stop(self) -> None:
        """End the processes."""
        async with self._placing:
            await asyncio.gather(*(worker.stop() for worker in self._workers))
            self._workers = []

    async def _with_time_for(self, order: StreamOrder) -> "_Worker":
        self._workers = [worker for worker in self._workers if worker.is_running]
        load = max((worker.load_of(order) for worker in self._workers), default=0.0)
        for worker in self._workers:
            # A stream that is too much for any process gets one of its own.
            if not worker.streams or worker.load + load <= _FULL:
                return worker
        if len(self._workers) < self._count:
            self._workers.append(await _Worker.started())
            return self._workers[-1]
        return min(self._workers, key=lambda worker: worker.load)


class RemoteStream:
    """A stream in another process, which one task uses.

    Args:
        worker: The process.
        load: What the stream takes of a core, about.

    Attributes:
        load: The same.
        latency_seconds: Algorithmic latency, as of the engine's stream.
    """

    def __init__(self, worker: "_Worker", load: float) -> None:
        self.load = load
        self.latency_seconds = 0.0
        self._worker = worker
        self._number = next(_numbers)

    async def begin(self, order: StreamOrder) -> None:
        """Make the stream; the process has its model."""
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
    """One process, seen from here.

    Attributes:
        streams: Those that it works on.
    """

    def __init__(self) -> None:
        self.streams: set[RemoteStream] = set()
        # What the process has: models by their names, and what a channel takes of a core with each.
        self._models: OrderedDict[str, tuple[Enhancer, float]] = OrderedDict()
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

    @property
    def load(self) -> float:
        """What its streams take of a core, about."""
        return sum(stream.load for stream in self.streams)

    def load_of(self, order: StreamOrder) -> float:
        """Say what a stream takes of a core, about; nothing if its model was not measured here."""
        if order.model not in self._models:
            return 0.0
        enhancer, load = self._models[order.model]
        is_resampled = order.rate != enhancer.model.metadata.sample_rate
        return load * order.channels * (_RESAMPLED_COST if is_resampled else 1.0)

    async def prepare(self, enhancer: Enhancer, order: StreamOrder) -> float:
        """Send the model of a stream, unless the process has it, and say what the stream takes of a core.

        The process keeps the models that were used last.
        """
        name = order.model
        if name not in self._models or self._models[name][0] is not enhancer:
            self._models[name] = enhancer, await self.ask(next(_numbers), "load", (name, enhancer))
        self._models.move_to_end(name)
        if len(self._models) > _MAX_MODELS:
            self.tell(0, "unload", self._models.popitem(last=False)[0])
        return self.load_of(order)

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
