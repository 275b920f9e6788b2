"""Before the edge stops: no new requests, and those under way get time to end."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.middleware.response_start import on_start
from kit.errors import PlatformError, Reason

EXEMPT = ("/health", "/metrics")


class Drain:
    """How many requests are under way, and whether new ones are taken. One per process."""

    def __init__(self) -> None:
        self.draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._running

    def enter(self) -> None:
        """Count a request. DRAINING if no new ones are taken."""
        if self.draining:
            raise PlatformError(Reason.DRAINING, "this server is stopping; ask again", retry_after_s=1.0)
        self._running += 1
        self._idle.clear()

    def leave(self) -> None:
        """End a request counted by `enter`."""
        self._running -= 1
        if self._running == 0:
            self._idle.set()

    async def wait(self, timeout_s: float) -> bool:
        """Take no new requests; whether those under way ended within `timeout_s`."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


class Draining:
    """Refuses requests while draining, health and metrics excepted, and closes connections."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(EXEMPT):
            await self._app(scope, receive, send)
            return
        if self._drain.draining:
            on_start(scope, _close)
        self._drain.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            self._drain.leave()


def _close(message: Message) -> None:
    message["headers"].append((b"connection", b"close"))
