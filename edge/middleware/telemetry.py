"""A server span and the request metrics of every request. Labels are bounded: routes by template, methods known."""

from __future__ import annotations

import time
from functools import cache
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.auth.identity import SCOPE_KEY, identity
from edge.middleware.response_start import on_start
from kit.telemetry import extract, get_logger, metrics, tenant_label, tracer

_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_TRACE_HEADERS: Final = frozenset((b"traceparent", b"tracestate"))
_UNMATCHED: Final = "unmatched"

_log = get_logger(__name__)


class Telemetry:
    """Stands outside the error renderer, so that it sees the status that the client sees."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tracer = tracer(__name__)
        requests = metrics.counter(
            "fastchat_http_requests_total", "HTTP requests answered.", ("method", "route", "status", "tenant")
        )
        first = metrics.histogram(
            "fastchat_http_first_byte_seconds", "Until the answer's first byte.", ("method", "route")
        )
        duration = metrics.histogram("fastchat_http_request_seconds", "Until the answer's end.", ("method", "route"))
        self._running = metrics.gauge("fastchat_http_requests_running", "HTTP requests under way.")
        # prometheus_client takes some microseconds to find a child; all labels are bounded, so keep them.
        self._requests = cache(requests.labels)
        self._first = cache(first.labels)
        self._duration = cache(duration.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "other"
        began = time.perf_counter()
        status = 499  # what is counted when the client leaves before an answer
        first = 0.0

        def seen(message: Message) -> None:
            nonlocal status, first
            status = message["status"]
            first = time.perf_counter() - began

        on_start(scope, seen)
        self._running.inc()
        with self._tracer.start_as_current_span(method, _parent(scope), SpanKind.SERVER) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                self._running.dec()
                route = _route(scope)
                taken = time.perf_counter() - began
                tenant = tenant_label(identity(scope).principal.tenant_id) if SCOPE_KEY in scope else ""
                self._requests(method, route, str(status), tenant).inc()
                self._duration(method, route).observe(taken)
                if first:
                    self._first(method, route).observe(first)
                if span.is_recording():
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.request.method", method)
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                _log.info("request", method=method, route=route, status=status, duration_ms=round(taken * 1e3, 1))


def _parent(scope: Scope) -> Context | None:
    carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _TRACE_HEADERS}
    return extract(carrier) if carrier else None


def _route(scope: Scope) -> str:
    """The route's template; never the path, of which there are as many as clients care to invent."""
    return getattr(scope.get("route"), "path", _UNMATCHED)
