"""Whatever a handler raises becomes `{"error": {message, type, param, code}}`; the unknown tells only its trace id.

`rendered` is the one renderer of errors over HTTP.
"""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus
from typing import Final

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from edge.middleware.response_start import started
from edge.openai.errors import error_object
from kit.errors import PlatformError, Reason
from kit.telemetry import current_trace_id, get_logger

_log: Final = get_logger(__name__)

Headers = list[tuple[bytes, bytes]]


def rendered(error: PlatformError) -> tuple[int, Headers, bytes]:
    """Status, headers and body of the error."""
    body = orjson.dumps({"error": error_object(error)})
    status = error.row.http_status
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    if not error.row.retryable and (status in (HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500):
        # The official SDKs retry these by themselves unless told not to.
        headers.append((b"x-should-retry", b"false"))
    if error.reason is Reason.PAYLOAD_TOO_LARGE:
        headers.append((b"connection", b"close"))  # or the rest of the body would have to be read first
    return status, headers, body


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
