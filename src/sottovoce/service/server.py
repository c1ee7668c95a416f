"""The process: socket, connections, signals."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn

from sottovoce.errors import ConfigError
from sottovoce.service.app import create_app
from sottovoce.service.connections import Connection, Socket
from sottovoce.service.pool import Pool
from sottovoce.service.settings import ServiceSettings
from sottovoce.service.streams import MAX_FRAME_BYTES

_TICKS_PER_CHECK = 10
# asyncio accepts as many connections in one turn of its loop. In the next it makes a transport of each, then the
# protocol closes those that are too many, and a turn later their files are closed: three turns' worth are open.
_BACKLOG, _TURNS_UNTIL_CLOSED = 128, 3
# Files that are open beside connections: for each recording at work, and for the process.
_FILES_PER_RECORDING, _OTHER_FILES = 4, 64
# What remains after the last recording was given up: sending its answer.
_CLOSING_SECONDS = 5.0
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Service:
    """The service; from here on its address is taken, and whoever connects waits for `run`.

    Args:
        settings: How it runs.

    Attributes:
        address: Where it listens, such as http://127.0.0.1:8000.

    Raises:
        ModelError: A model cannot be loaded.
        ConfigError: The address cannot be listened at, or the system allows too few open files.
        DataError: The folder for uploads cannot be used.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        _require_files(settings)
        self._listener = _listen(settings)
        try:
            app = create_app(settings)
        except BaseException:
            self._listener.close()
            raise
        connection = type(
            "LimitedConnection",
            (Connection,),
            {"limit": settings.connections, "transfer_seconds": settings.transfer_seconds},
        )
        config = uvicorn.Config(
            app,
            http=connection,
            ws=Socket,
            ws_max_size=4 * MAX_FRAME_BYTES,
            # What a client sends is not read while it is slowed down, answers to pings included: see `streams`.
            ws_ping_interval=None,
            # A few bytes may hold a frame of any size, and sound does not get smaller.
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            backlog=_BACKLOG,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.grace_seconds + _CLOSING_SECONDS),
        )
        self._server = _Server(config, app.state.pool, settings.grace_seconds)
        host, port = self._listener.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Serve until a signal or `stop`, and finish what is being enhanced."""
        with self._listener:
            self._server.run([self._listener])

    def stop(self) -> None:
        """Let `run` come to its end; to be called from any thread."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Looks after connections while it runs, and gives recordings up before answers when it ends."""

    def __init__(self, config: uvicorn.Config, pool: Pool, grace_seconds: float) -> None:
        super().__init__(config)
        self._pool = pool
        self._grace_seconds = grace_seconds

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_CHECK == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection | Socket):
                    connection.check()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.create_task(self._pool.stop(self._grace_seconds))
        await super().shutdown(sockets)
        await stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal is a wish to end, and the end that follows is a good one: it is not raised again."""
        if threading.current_thread() is not threading.main_thread():  # others receive none
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in heeded:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in heeded.items():
                signal.signal(number, handler)


def _require_files(settings: ServiceSettings) -> None:
    """See to it that connections never take the files that recordings need."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    recordings = settings.workers + settings.queue
    needed = settings.connections + _TURNS_UNTIL_CLOSED * _BACKLOG + _FILES_PER_RECORDING * recordings + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise ConfigError(
                f"found a limit of {hard} open files, expected {needed} for {settings.connections} connections and "
                f"{recordings} recordings: raise it (`ulimit -n`), or lower --connections or --queue"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _listen(settings: ServiceSettings) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # Connections inherit it. Without it, the kernel holds a block of live sound back until the client has confirmed
        # the one before; asyncio turns that off for sockets alone that name their protocol, which this one does not.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {settings.host}, port {settings.port} ({error.strerror}): name another address, or a "
            "port that is free"
        ) from error
