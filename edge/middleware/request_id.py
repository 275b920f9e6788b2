"""A request id in every answer and every log line: the client's if it is well-formed, else a new one."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.middleware.response_start import on_start
from kit.ids import new_uuid
from kit.telemetry import bind_request_id

_KEY: Final = "fastchat.request_id"
_WELL_FORMED: Final = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


def request_id(scope: Scope) -> str:
    """The id of the request with this ASGI scope."""
    found: str = scope[_KEY]
    return found


class RequestId:
    """Chooses the id, binds it to the log context and tells it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = _told(scope)
        scope[_KEY] = told.decode()

        def hook(message: Message) -> None:
            message["headers"].append((b"x-request-id", told))

        on_start(scope, hook)
        bind_request_id(scope[_KEY])
        await self._app(scope, receive, send)


def _told(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _WELL_FORMED.fullmatch(value):
                return bytes(value)
            break
    return f"req_{new_uuid().replace('-', '')}".encode()
