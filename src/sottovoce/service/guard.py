"""Who may call: hosts against DNS rebinding, origins against other pages of a browser, a token beyond this machine."""

import base64
import hmac
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sottovoce.service.errors import ServiceError
from sottovoce.service.settings import ServiceSettings, is_loopback

OPEN_PATHS = ("/healthz", "/readyz")
"""What supervisors ask by an address that nobody configures; it says nothing about anybody."""

SUBPROTOCOL = "sottovoce"
"""What a WebSocket may offer, and is answered."""
TOKEN_SUBPROTOCOL = "sottovoce.token."
"""A page cannot set a WebSocket's headers: it offers this with the token behind it, as base64url without padding."""


class Guard:
    """Refuses requests before anything of them is read, as ASGI middleware.

    Args:
        app: What is behind it.
        settings: Names and token.
        public: Paths that are read without a token, such as the page that asks for it.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, public: Collection[str] = ()) -> None:
        self._app = app
        self._public = public
        self._hosts = {_host(name) for name in (settings.host, *settings.hosts)}
        self._token = None if settings.token is None else settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with an error, or let pass."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        await (self._app if refusal is None else refusal.response())(scope, receive, send)

    def _refusal(self, scope: Scope) -> ServiceError | None:
        if scope["path"] in OPEN_PATHS:
            return None
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows(host):
            return ServiceError(
                403,
                "host_refused",
                f"found the host {host[:100]!r}, expected localhost or one that the service was started with "
                "(--hosts): a page of a browser may have used a name of its own",
            )
        origin = headers.get("origin")
        # Its scheme is that of a proxy, if there is one.
        if origin is not None and _place(origin) != host.lower():
            return ServiceError(
                403,
                "origin_refused",
                f"found a request from a page of {origin[:100]!r}, expected one of the service itself",
            )
        if scope["path"] in self._public:
            return None
        if self._token is not None and not self._carries_token(headers, scope.get("subprotocols", ())):
            return ServiceError(
                401,
                "token_needed",
                "found no token, or a wrong one, expected the header `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": "Bearer"},
            )
        return None

    def _knows(self, host: str) -> bool:
        name = _host(host)
        return name != "" and (is_loopback(name) or name in self._hosts)

    def _carries_token(self, headers: Headers, subprotocols: Iterable[str]) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(token.strip().encode(errors="replace"))
        return any(
            self._is_token(_from_base64url(name.removeprefix(TOKEN_SUBPROTOCOL)))
            for name in subprotocols
            if name.startswith(TOKEN_SUBPROTOCOL)
        )

    def _is_token(self, found: bytes) -> bool:
        # In constant time, so that nobody finds it letter by letter.
        return hmac.compare_digest(found, self._token or b"")


def _place(origin: str) -> str | None:
    """Host and port of an origin; None for what is none, such as null."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _from_base64url(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def _host(text: str) -> str:
    """The name in a Host header or a setting, without port and brackets; empty if there is none."""
    try:
        # An address of IPv6 has brackets in a header and may have none in a setting.
        return (urlsplit(f"//{text}").hostname or "") if text.count(":") < 2 or "[" in text else text.lower()
    except ValueError:
        return ""
