"""Lets the other middlewares touch an answer's status and headers without wrapping `send` once each.

A streamed answer sends hundreds of messages, and every wrapper costs on each of them; this is the only one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEY: Final = "fastchat.on_start"
Hook = Callable[[Message], None]


def on_start(scope: Scope, hook: Hook) -> None:
    """Call `hook` with the `http.response.start` message (mutable) right before it is sent."""
    scope[_KEY].append(hook)


def started(scope: Scope) -> bool:
    """Whether the answer has begun."""
    return not scope[_KEY]


class ResponseStart:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hooks: list[Hook] = []
        scope[_KEY] = hooks

        async def starting(message: Message) -> None:
            if hooks and message["type"] == "http.response.start":
                for hook in hooks:
                    hook(message)
                hooks.clear()
            await send(message)

        hooks.append(_nothing)  # so that an empty list always means "begun"
        await self._app(scope, receive, starting)


def _nothing(_: Message) -> None:
    return
