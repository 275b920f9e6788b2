"""Which browser origins may call, and which of our headers their scripts may read.

Preflights are Starlette's; the headers of other answers are added by one hook, since Starlette would wrap every
message of every stream, with or without an Origin.
"""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.config import CorsConfig
from edge.middleware.response_start import on_start

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_ANY = "*"


class Cors:
    """CORS without cookies: credentials travel in the Authorization header."""

    def __init__(self, app: ASGIApp, config: CorsConfig) -> None:
        self._app = app
        self._preflight = CORSMiddleware(
            app,
            allow_origins=config.origins,
            allow_methods=_METHODS,
            allow_headers=config.allow_headers,
            max_age=config.max_age_s,
        )
        self._any = _ANY in config.origins
        self._origins = frozenset(origin.encode() for origin in config.origins)
        self._exposed = (b"access-control-expose-headers", ", ".join(config.expose_headers).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin is not None and scope["method"] == "OPTIONS" and _asks_first(scope):
            await self._preflight(scope, receive, send)
            return
        if origin is not None or not self._any:
            on_start(scope, lambda message: self._allow(message, origin))
        await self._app(scope, receive, send)

    def _allow(self, message: Message, origin: bytes | None) -> None:
        headers: list[tuple[bytes, bytes]] = message["headers"]
        if self._any:
            headers += [(b"access-control-allow-origin", b"*"), self._exposed]
            return
        headers.append((b"vary", b"Origin"))
        if origin in self._origins:
            headers += [(b"access-control-allow-origin", origin), self._exposed]


def _asks_first(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])
