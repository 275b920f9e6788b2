"""Refuses early what this edge cannot serve, by class of work, and everything new once it is draining."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.middleware.response_start import on_start
from kit.admission import CONTROL, INTERACTIVE, Admission, bind_class

_EXEMPT: Final = ("/health", "/metrics")
_ADMIN: Final = "/v1/admin"


class Admitted:
    """DRAINING or OVERLOADED; health and metrics always answer. Administration has places of its own."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_EXEMPT):
            await self._app(scope, receive, send)
            return
        work_class = CONTROL if scope["path"].startswith(_ADMIN) else INTERACTIVE
        bind_class(work_class)
        if self._admission.draining:
            on_start(scope, _close)
        with self._admission.slot(work_class):
            await self._app(scope, receive, send)


def _close(message: Message) -> None:
    message["headers"].append((b"connection", b"close"))
