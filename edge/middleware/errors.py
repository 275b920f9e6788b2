"""Whatever a handler raises becomes an OpenAI-shaped answer; an unknown exception tells only its trace id."""

from __future__ import annotations

import asyncio

from kit.errors import PlatformError, Reason
from kit.telemetry import current_trace_id, get_logger
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.api.errors import rendered
from edge.middleware.response_start import started

_log = get_logger(__name__)


class Errors:
    """Renders errors raised before the answer began. One raised later can only cut the answer off, and is logged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if scope["type"] != "http":
                raise
            known = error if isinstance(error, PlatformError) else _unknown(error)
            if started(scope):
                # Returning without an end makes the server cut the connection: no client takes it for complete.
                _log.error("answer cut off", reason=known.reason.name, exc_info=error)
                return
            status, headers, body = rendered(known)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def _unknown(error: Exception) -> PlatformError:
    trace_id = current_trace_id()
    _log.error("unexpected error", exc_info=error)
    suffix = f" (trace {trace_id})" if trace_id else ""
    return PlatformError(Reason.INTERNAL, f"internal error{suffix}", trace_id=trace_id)
