"""Connections of uvicorn that end when their client is too slow, and of which there are so many at most."""

import asyncio
import json
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

# Until the headers of a request are whole, from the beginning of a connection or the end of the answer before.
HEADER_SECONDS = 10.0
# A WebSocket whose client reads nothing, or does not close when it is to.
STALLED_SECONDS = 10.0
_CLOSING_SECONDS = 2.0
# What may wait for a client beside the sound: answers to its pings.
_MAX_WAITING_BYTES = 2**21
_MAX_FRAGMENTS = 1024
# Between two checks, about a second apart; browsers and libraries send one in 20 s.
_MAX_PINGS = 100


class Connection(H11Protocol):
    """A connection that is closed when its client is too slow.

    uvicorn ends connections that are idle between two requests, and no others.
    """

    limit = 512
    transfer_seconds = 600.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, in place of the one that has been idle for longest if there are too many."""
        super().connection_made(transport)
        self.waiting_since = time.monotonic()
        self._waits_for = "request"
        if len(self.connections) <= self.limit:
            return
        idle = [
            connection
            for connection in self.connections
            if isinstance(connection, Connection | Socket)
            and connection is not self
            and connection.waits_for == "request"
        ]
        longest = min(idle, key=lambda connection: connection.waiting_since, default=self)
        longest.transport.abort()

    @property
    def waits_for(self) -> str:
        """What the client has to do: send a request, send its body, read an answer, or nothing."""
        cycle = self.cycle
        if self.transport.is_closing():
            return "close"
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        if cycle is None or cycle.response_complete:
            return "request"
        return "answer" if cycle.response_started else ""

    def on_response_complete(self) -> None:
        """Give the client its time for the next request."""
        self.waiting_since = time.monotonic()
        super().on_response_complete()

    def check(self) -> None:
        """Close the connection if its client has had its time; to be called about once a second."""
        waits_for = self.waits_for
        now = time.monotonic()
        if waits_for != self._waits_for:
            self._waits_for, self.waiting_since = waits_for, now
        seconds = HEADER_SECONDS if waits_for in ("request", "close") else self.transfer_seconds
        if waits_for and now - self.waiting_since > seconds:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, with the body that all errors have."""
        body = json.dumps({"error": {"code": "no_http", "message": "found no request of HTTP, expected one"}}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        events = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that is closed when its client does not read, and takes bounded memory whatever it sends.

    uvicorn itself stops to read at every frame until the application has taken it, which costs two system calls.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection from HTTP."""
        super().connection_made(transport)
        self.close_timeout = _CLOSING_SECONDS
        self.waiting_since = time.monotonic()
        self._is_spoken = False
        self._pings = 0
        self._stalled_since: float | None = None

    @property
    def waits_for(self) -> str:
        """What the client has to do, as of `Connection`: say what it wants, or nothing in particular."""
        return "" if self._is_spoken else "request"

    def check(self) -> None:
        """Close the connection if its client has not read for too long; to be called about once a second."""
        self._pings = 0
        if self.writable.is_set() and not self.transport.is_closing():
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = time.monotonic()
        elif time.monotonic() - self._stalled_since > STALLED_SECONDS:
            self.transport.abort()

    def shutdown(self) -> None:
        """Let the application say that the service stops, which closes the connection soon in any case."""
        if self.handshake_complete and not self.close_sent:
            self.loop.call_later(2 * _CLOSING_SECONDS, self.transport.abort)
        else:
            super().shutdown()

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; reading stops when there is a second one that the application has not taken."""
        self._is_spoken = True
        is_paused, self.read_paused = self.read_paused, True
        super().send_receive_event_to_app()
        self.read_paused = is_paused
        if not is_paused and self.queue.qsize() > 1:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_cont(self, event: Frame) -> None:
        """Take a part of a message."""
        if len(self.frames) < _MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.transport.abort()

    def handle_ping(self) -> None:
        """Answer, unless there are too many, or the client reads no answers."""
        self._pings += 1
        if self._pings <= _MAX_PINGS and self.transport.get_write_buffer_size() < _MAX_WAITING_BYTES:
            super().handle_ping()
        else:
            self.transport.abort()
