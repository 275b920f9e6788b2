"""Counts a request against its key's, workspace's and tenant's limit, and tells what is left."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.auth.identity import SCOPE_KEY, identity
from edge.limits import Limits, rate_headers
from edge.middleware.response_start import on_start


class RateLimit:
    """RATE_LIMITED when a limit is used up; `x-ratelimit-*` headers on every answer to a caller under a limit."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if SCOPE_KEY in scope:
            who = identity(scope)

            def tell(message: Message) -> None:
                standing = self._limits.standing(who)
                if standing is not None:
                    message["headers"].extend(rate_headers(standing))

            on_start(scope, tell)
            self._limits.count(who)
        await self._app(scope, receive, send)
