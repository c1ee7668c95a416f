"""Refusals that reach their client."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A client that sends for longer may lose the sentence.
_SECONDS = 2.0
_FIRST_REFUSAL = 400
# Of this client nothing is awaited any more.
_TOO_SLOW = 408


class Refusals:
    """Receives what a client is still sending before it is refused, as ASGI middleware.

    A connection that is closed while data of the client are unread is reset, and a reset may take the answer with it.

    Args:
        app: What is behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # To receive would tell such a client to send its body.
        is_sending = Headers(scope=scope).get("expect", "").lower() != "100-continue"

        async def received() -> Message:
            nonlocal is_sending
            message = await receive()
            is_sending = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            status = message.get("status", 0)
            if message["type"] == "http.response.start" and status >= _FIRST_REFUSAL and status != _TOO_SLOW:
                try:
                    async with asyncio.timeout(_SECONDS):
                        while is_sending:
                            await received()
                except TimeoutError:
                    pass
            await send(message)

        await self._app(scope, received, sent)
