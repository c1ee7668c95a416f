"""Live sound over a WebSocket: blocks of a signal come in, its enhanced blocks go out."""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from sottovoce.service.errors import ServiceError
from sottovoce.service.guard import SUBPROTOCOL
from sottovoce.service.limits import Limits, client_of
from sottovoce.service.metrics import Metrics
from sottovoce.service.models import ServedModels
from sottovoce.service.schemas import StreamFields
from sottovoce.service.stream_work import StreamOrder
from sottovoce.service.stream_workers import RemoteStream, StreamWorkers
from sottovoce.signal.pcm import PcmFormat

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 2**18
"""The largest frame that is taken or sent: eight seconds of one channel of 16 bits at 16 kHz."""
# Without any frame for so long, a client is gone: TCP alone would not say so for hours.
FIRST_FRAME_SECONDS = 10.0
IDLE_SECONDS = 30.0
# What one stream has enhanced at once while the others wait.
_PIECE_SECONDS = 0.1
_MAX_TEXT_CHARACTERS = 4096
# A client that reads nothing gets no farewell.
_FAREWELL_SECONDS = 2.0
_CLOSE_CODES = {408: 1008, 413: 1009, 422: 1007, 429: 1013, 500: 1011, 503: 1012}
_GONE = 1006


class Streams:
    """The open streams of one service, whose sound is worked on in other processes.

    Args:
        models: The models that may be named.
        metrics: Where streams are counted.
        limits: What each client may ask for.
        limit: The most channels of all streams together.
        workers: The most processes for streams.
        is_stopping: Set when the service is about to stop.
    """

    def __init__(
        self,
        models: ServedModels,
        metrics: Metrics,
        limits: Limits,
        *,
        limit: int,
        workers: int,
        is_stopping: asyncio.Event,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._limits = limits
        self._limit = limit
        self._workers = StreamWorkers(workers)
        self._is_stopping = is_stopping
        self._channels = 0

    async def stop(self) -> None:
        """End the processes."""
        await self._workers.stop()

    async def serve(self, socket: WebSocket) -> None:
        """Talk with one client until one of the two closes.

        Args:
            socket: A WebSocket that was not accepted yet.
        """
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        begun = time.monotonic()
        session = _Session(socket)
        talking = asyncio.ensure_future(self._talk(session))
        stopping = asyncio.ensure_future(self._is_stopping.wait())
        code = 1000
        try:
            await asyncio.wait({talking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                talking.result()
                await _close(socket, code, "")
            else:
                raise ServiceError(503, "stopping", "the service is about to stop: connect again later")
        except WebSocketDisconnect:
            code = _GONE
        except ServiceError as error:
            code = await _refuse(socket, error)
        except Exception:
            log.exception("a stream failed")
            code = await _refuse(socket, ServiceError(500, "internal", "the service failed: see its log"))
        finally:
            for task in (talking, stopping):
                task.cancel()
            await asyncio.gather(talking, stopping, return_exceptions=True)
            fields = {"code": code, "sound": round(session.seconds, 3), "seconds": round(time.monotonic() - begun, 3)}
            log.info("a stream has ended", extra={"fields": fields})

    async def _talk(self, session: "_Session") -> None:
        text = await session.receive(FIRST_FRAME_SECONDS)
        if not isinstance(text, str):
            raise _unreadable("found sound in the first frame, expected text with rate, channels and format")
        fields = StreamFields.checked(_read(text))
        order = StreamOrder(fields.model, fields.rate, fields.channels, fields.format, fields.options())
        with self._limits.stream(session.client, fields.channels), self._admitted(fields.channels):
            enhancer = await self._models.load(fields.model)
            async with self._workers.open(enhancer, order) as stream:
                await self._greet(session, stream, fields)
                await self._enhance(session, stream, fields)

    async def _greet(self, session: "_Session", stream: RemoteStream, fields: StreamFields) -> None:
        latency = stream.latency_seconds
        started = {
            "type": "Started",
            # JSON has no infinity: a limit of that is none, and null.
            **json.loads(fields.model_dump_json()),
            "latency_samples": math.ceil(round(latency * fields.rate, 6)),
            "latency_ms": round(1000 * latency, 3),
        }
        await session.say(started)

    async def _enhance(self, session: "_Session", stream: RemoteStream, fields: StreamFields) -> None:
        pcm = PcmFormat(fields.format, fields.channels)
        most = MAX_FRAME_BYTES - MAX_FRAME_BYTES % pcm.frame_bytes
        piece = max(1, int(_PIECE_SECONDS * fields.rate)) * pcm.frame_bytes
        sound = self._metrics.sound.labels(self._models.label(fields.model))
        samples = 0
        while True:
            message = await session.receive(IDLE_SECONDS)
            if isinstance(message, bytes):
                self._limits.require_sound(session.client)
                count = _samples(message, pcm)
                for start in range(0, len(message), piece):
                    begun = time.perf_counter()
                    await session.send(await stream.push(message[start : start + piece]), most)
                    self._metrics.block_seconds.observe(time.perf_counter() - begun)
                samples += count
                session.seconds += count / fields.rate
                sound.inc(count / fields.rate)
                self._limits.take_sound(session.client, fields.channels * count / fields.rate)
                continue
            command = _read(message).get("type")
            if command == "KeepAlive":
                continue
            if command not in ("Finalize", "CloseStream"):
                raise _unreadable(
                    f"found a text frame of type {str(command)[:100]!r}, expected KeepAlive, Finalize or CloseStream"
                )
            await session.send(await stream.flush(), most)
            await session.say({"type": "Finalized", "samples": samples})
            if command == "CloseStream":
                return
            samples = 0

    @contextlib.contextmanager
    def _admitted(self, channels: int) -> Iterator[None]:
        if self._channels + channels > self._limit:
            raise ServiceError(
                429,
                "too_many_streams",
                f"found {self._channels} channels in open streams and {channels} more, expected {self._limit} at most: "
                "try again later",
            )
        self._channels += channels
        self._metrics.streams.inc()
        try:
            yield
        finally:
            self._channels -= channels
            self._metrics.streams.dec()


class _Session:
    """Frames of one client, within limits of size and time."""

    def __init__(self, socket: WebSocket) -> None:
        self.seconds = 0.0
        self.client = client_of(socket.scope)
        self._socket = socket

    async def receive(self, seconds: float) -> str | bytes:
        try:
            async with asyncio.timeout(seconds):
                message = await self._socket.receive()
        except TimeoutError:
            raise ServiceError(
                408,
                "stream_idle",
                f'found no frame for {seconds:g} s: send sound, or {{"type": "KeepAlive"}} in a pause',
            ) from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        data: bytes | None = message.get("bytes")
        if data is None:
            text: str = message["text"]
            if len(text) > _MAX_TEXT_CHARACTERS:
                raise _too_large(f"{len(text)} characters of text", f"{_MAX_TEXT_CHARACTERS}")
            return text
        if len(data) > MAX_FRAME_BYTES:
            raise _too_large(f"a frame of {len(data)} bytes", f"{MAX_FRAME_BYTES}")
        return data

    async def say(self, content: Mapping[str, object]) -> None:
        await self._socket.send_text(json.dumps(content))

    async def send(self, sound: bytes, most: int) -> None:
        for start in range(0, len(sound), most):
            await self._socket.send_bytes(sound[start : start + most])


def _samples(data: bytes, pcm: PcmFormat) -> int:
    try:
        return pcm.samples(data)
    except ValueError as error:
        raise _unreadable(str(error)) from None


def _read(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _unreadable("found a text frame that is no JSON object")
    return content


async def _refuse(socket: WebSocket, error: ServiceError) -> int:
    """Send an error, and close; gives the code with which."""
    code = _CLOSE_CODES[error.status]
    # The client may be gone, or read nothing.
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await socket.send_text(json.dumps(error.content()))
    await _close(socket, code, error.code)
    return code


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(_FAREWELL_SECONDS):
            if socket.application_state is WebSocketState.CONNECTED:
                await socket.close(code, reason)


def _unreadable(sentence: str) -> ServiceError:
    return ServiceError(422, "invalid_frame", sentence)


def _too_large(found: str, limit: str) -> ServiceError:
    return ServiceError(413, "frame_too_large", f"found {found}, expected {limit} at most: send smaller frames")
