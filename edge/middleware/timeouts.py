"""Nobody waits forever: for the answer's first byte, and for a body that stops arriving.

A running stream is not touched; how long it may take is the run's own timeout.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.config import TimeoutConfig
from edge.middleware.response_start import on_start, started
from kit.errors import PlatformError, Reason


class Timeouts:
    """DEADLINE_EXCEEDED when a limit of the settings passes."""

    def __init__(self, app: ASGIApp, config: TimeoutConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._config.admin_s if scope["path"].startswith("/v1/admin/") else self._config.first_byte_s
        idle = self._config.body_idle_s
        arrived = False

        async def timed() -> Message:
            nonlocal arrived
            if arrived:
                return await receive()  # now it waits for the client to leave
            try:
                async with asyncio.timeout(idle):
                    message = await receive()
            except TimeoutError as error:
                raise _late("the request's body stopped arriving", idle) from error
            arrived = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        deadline = asyncio.timeout(limit)
        waiting = True

        def begun(_: Message) -> None:
            if waiting:  # the error renderer outside answers too, when the time is over
                deadline.reschedule(None)

        on_start(scope, begun)
        try:
            async with deadline:
                try:
                    await self._app(scope, timed, send)
                finally:
                    waiting = False
        except TimeoutError as error:
            if not deadline.expired() or started(scope):
                raise
            raise _late("no answer in time", limit) from error


def _late(message: str, limit_s: float) -> PlatformError:
    return PlatformError(Reason.DEADLINE_EXCEEDED, message, deadline_s=f"{limit_s:g}")
