"""What the service counts, for Prometheus, and a line of the log for every request."""

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sottovoce.service.jobs import Jobs
from sottovoce.service.pool import Pool

log = logging.getLogger(__name__)

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# nginx's word for a client that went away before its answer.
CLIENT_GONE = 499
# Blocks of live sound: most come every 8 to 100 ms.
_BLOCK_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 1)
_METHODS = ("GET", "HEAD", "POST", "DELETE")


class Metrics:
    """The counters of one service.

    Args:
        pool: What is asked for its state.
        jobs: What is asked for its state, too.
    """

    def __init__(self, pool: Pool, jobs: Jobs) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("sottovoce_requests", "Requests that were answered.", labels, registry=self.registry)
        self.seconds = Histogram(
            "sottovoce_request_seconds",
            "Time from a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.received = Counter("sottovoce_received_bytes", "Bytes of uploads.", registry=self.registry)
        self.sound = Counter(
            "sottovoce_sound_seconds",
            "Length of the recordings and streams that were enhanced.",
            ("model",),
            registry=self.registry,
        )
        self.streams = Gauge("sottovoce_streams", "Streams that are open.", registry=self.registry)
        self.block_seconds = Histogram(
            "sottovoce_stream_block_seconds",
            "Time from a block of live sound until what is ready was sent, at most 0.1 s of sound each.",
            buckets=_BLOCK_SECONDS,
            registry=self.registry,
        )
        for name, meaning, value in (
            ("queued_in_jobs", "Recordings of jobs that wait.", lambda: jobs.waiting),
            ("running", "Recordings that are being enhanced.", lambda: pool.running),
            ("admitted", "Recordings that are received, wait, or are being enhanced.", lambda: pool.admitted),
        ):
            Gauge(f"sottovoce_recordings_{name}", meaning, registry=self.registry).set_function(value)


class Observer:
    """Counts requests and writes a line for each, as ASGI middleware.

    Neither names a file, a query or a header: only what the service itself has chosen.

    Args:
        app: What is behind it.
        metrics: Where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status, received, sent, is_counted = CLIENT_GONE, 0, 0, False

        def count() -> None:
            nonlocal is_counted
            if is_counted:
                return
            is_counted = True
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            self._metrics.received.inc(received)
            log.info(
                "%s %s %d",
                method,
                route,
                status,
                extra={"fields": {"received": received, "sent": sent, "seconds": round(seconds, 4)}},
            )

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                count()  # before whoever asked has the whole answer, and may look at the metrics
            await send(message)

        try:
            await self._app(scope, receive_counted, send_counted)
        except ClientDisconnect:
            pass
        except Exception:
            status = 500
            raise
        finally:
            count()
