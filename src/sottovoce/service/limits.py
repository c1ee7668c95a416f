"""How much each client may ask for, so that one of them leaves something to the others."""

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from sottovoce.service.errors import ServiceError
from sottovoce.service.guard import OPEN_PATHS
from sottovoce.service.settings import ServiceSettings
from sottovoce.service.work import Progress

_MINUTE, _HOUR = 60.0, 3600.0
# Clients that are remembered; the one that was silent for longest is forgotten first. An entry takes about 200 bytes.
_MAX_CLIENTS = 2**16
# Whoever has one address of IPv6 has all of its network.
_NETWORK_BITS = 64
# Of what is no address.
_MAX_NAME_CHARACTERS = 64


class Allowance:
    """So much in a time for each client: all of it at once, or bit by bit.

    What is known of a client is one number, the time until which its allowance is spent. It lies ahead by the whole
    time when nothing is left, and a client for which it has passed need not be remembered.

    Args:
        amount: What a client gets.
        seconds: In which time.
        clock: Gives the time in s.

    Source:
        The generic cell rate algorithm: ITU-T Recommendation I.371.
    """

    def __init__(self, amount: float, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._interval = seconds / amount
        self._clock = clock
        self._spent_until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._spent_until)

    def wait_seconds(self, client: str, amount: float = 0.0) -> float:
        """Say how long a client has to wait until it is left so much; 0 if it is now."""
        now = self._clock()
        spent_until = max(self._spent_until.get(client, now), now) + amount * self._interval
        # Rounding makes nobody wait.
        return max(0.0, spent_until - now - self._seconds - 1e-6)

    def take(self, client: str, amount: float) -> None:
        """Count what a client had, which may be more than it was left."""
        now = self._clock()
        self._spent_until[client] = max(self._spent_until.get(client, 0.0), now) + amount * self._interval
        self._spent_until.move_to_end(client)
        # Two of the oldest for each that comes: those that are through with it never pile up.
        for _ in range(2):
            oldest = next(iter(self._spent_until))
            if self._spent_until[oldest] > now and len(self._spent_until) <= _MAX_CLIENTS:
                break
            del self._spent_until[oldest]
            if not self._spent_until:
                break


class Limits:
    """What each client may ask for.

    Args:
        settings: How much.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._requests = Allowance(settings.client_requests, _MINUTE)
        self._sound = Allowance(60 * settings.client_minutes, _HOUR)
        self._channels: Counter[str] = Counter()
        self._jobs: OrderedDict[str, str] = OrderedDict()

    def take_request(self, client: str) -> None:
        """Count a request.

        Raises:
            ServiceError: There were too many.
        """
        limit = f"{self._settings.client_requests} requests in a minute"
        _require(self._requests.wait_seconds(client, 1), "too_many_requests", limit)
        self._requests.take(client, 1)

    def require_sound(self, client: str) -> None:
        """Refuse a client that has had all its sound.

        Raises:
            ServiceError: It has.
        """
        limit = f"{self._settings.client_minutes:g} minutes of sound in an hour, all channels together,"
        _require(self._sound.wait_seconds(client), "too_much_sound", limit)

    def take_sound(self, client: str, seconds: float) -> None:
        """Count sound that was decoded, or came in a stream, all channels together."""
        if seconds > 0:
            self._sound.take(client, seconds)

    def note_job(self, job: str, client: str) -> None:
        """Remember whose job it is, until the service ends."""
        self._jobs[job] = client
        if len(self._jobs) > self._settings.jobs:
            self._jobs.popitem(last=False)

    def client_of_job(self, job: str) -> str | None:
        """Say whose job it is, and forget it; None if an earlier service has taken it."""
        return self._jobs.pop(job, None)

    @contextmanager
    def decoding(
        self, client: str | None, on_progress: Callable[[Progress], None] | None = None
    ) -> Iterator[Callable[[Progress], None]]:
        """Count the sound that is decoded meanwhile, whatever becomes of it.

        Args:
            client: Whose sound it is; None if nobody knows.
            on_progress: Called with the same progress.

        Yields:
            What is to be called with the progress of the work.
        """
        decoded_seconds = 0.0

        def advance(progress: Progress) -> None:
            nonlocal decoded_seconds
            decoded_seconds = progress.decoded_seconds
            if on_progress is not None:
                on_progress(progress)

        try:
            yield advance
        finally:
            if client is not None:
                self.take_sound(client, decoded_seconds)

    @contextmanager
    def stream(self, client: str, channels: int) -> Iterator[None]:
        """Count the channels of a stream while it is open.

        Raises:
            ServiceError: The client has too many.
        """
        limit = self._settings.client_streams
        if self._channels[client] + channels > limit:
            found = self._channels[client]
            raise ServiceError(
                429,
                "too_many_streams",
                f"found {found} channels in open streams of this client and {channels} more, expected {limit} at most: "
                "end one of them, or ask who runs the service (--client-streams)",
            )
        self._channels[client] += channels
        try:
            yield
        finally:
            self._channels[client] -= channels
            if not self._channels[client]:
                del self._channels[client]


class RequestLimit:
    """Refuses the requests of clients that send too many, as ASGI middleware.

    Args:
        app: What is behind it.
        limits: What counts them.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or let pass."""
        if scope["type"] in ("http", "websocket") and scope["path"] not in OPEN_PATHS:
            try:
                self._limits.take_request(client_of(scope))
            except ServiceError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def client_of(scope: Scope) -> str:
    """Name the client of a request.

    Args:
        scope: Of ASGI; a proxy that is trusted was replaced by the one that it speaks for.

    Returns:
        Its address, or its network for IPv6.
    """
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # such as a socket of Unix, or what a proxy has written
        return str(host)[:_MAX_NAME_CHARACTERS]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
        address = address.ipv4_mapped
    return str(address)


def _require(wait_seconds: float, code: str, limit: str) -> None:
    seconds = math.ceil(wait_seconds)
    if seconds:
        sentence = f"found more than {limit} from this client, expected that at most: try again in {seconds} s"
        raise ServiceError(429, code, sentence, {"Retry-After": str(seconds)})
