"""Refuses a request body above the limit: by its declared length before reading, else while it arrives.

Stands inside the identity middleware, so that a tenant's narrower limit counts and nobody's body is read before
they are known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.errors import PlatformError, Reason

Limit = Callable[[Scope], int]
"""The limit in bytes for the request with this scope."""


_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 64 * 1024 * 1024


class BodyLimit:
    """PAYLOAD_TOO_LARGE above the limit, for chunked bodies too."""

    def __init__(self, app: ASGIApp, limit: Limit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope)
        if _declared(scope) > limit:
            await _discard(receive)
            raise _too_large(limit)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    await _discard(receive)
                    raise _too_large(limit)
            return message

        await self._app(scope, counted, send)


async def _discard(receive: Receive) -> None:
    """Read on for a moment, keeping nothing: a connection closed on unread data is reset, and most clients then lose
    the answer that tells them why."""
    seen = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while seen < _LINGER_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                seen += len(message.get("body", b""))


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _too_large(limit: int) -> PlatformError:
    return PlatformError(
        Reason.PAYLOAD_TOO_LARGE, f"the body is larger than the limit of {limit} bytes", limit_bytes=str(limit)
    )
