"""A span, a count and a duration around every call made: begun before it, ended by gRPC's done callback."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import Counter, Histogram

from kit.telemetry import metrics, tracer

_tracer = tracer(__name__)
_made = metrics.counter("fastchat_rpc_client_total", "Calls made.", ("service", "method", "code"))
_seconds = metrics.histogram("fastchat_rpc_client_seconds", "Duration of calls made.", ("service", "method"))


@contextmanager
def observed(path: str) -> Iterator[Callable[[Any], None]]:
    """Yields what the call must be given to when it was made: `watch(call)`. Spans of the block are its children."""
    service, _, name = path[1:].rpartition("/")
    span = _tracer.start_span(path[1:], kind=SpanKind.CLIENT)
    if span.is_recording():
        span.set_attributes({"rpc.system": "grpc", "rpc.service": service, "rpc.method": name})
    began = time.perf_counter()
    with trace.use_span(span, end_on_exit=False):
        try:
            yield lambda call: call.add_done_callback(partial(_ended, span, service, name, began))
        except BaseException:  # the call was not made; nobody else will end the span
            span.end()
            raise


def _ended(span: Span, service: str, name: str, began: float, call: Any) -> None:
    code = _code_of(call)
    _count_of(service, name, code).inc()
    _duration_of(service, name).observe(time.perf_counter() - began)
    if span.is_recording():
        span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
            span.set_status(Status(StatusCode.ERROR, code.name))
    span.end()


def _code_of(call: Any) -> grpc.StatusCode:
    """The code of a finished call. `code()` is a coroutine, which does not wait once the call is done."""
    waiting = call.code()
    try:
        waiting.send(None)
    except StopIteration as stop:
        return stop.value if isinstance(stop.value, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
    waiting.close()
    return grpc.StatusCode.UNKNOWN


@cache
def _count_of(service: str, name: str, code: grpc.StatusCode) -> Counter:
    return _made.labels(service, name, code.name)


@cache
def _duration_of(service: str, name: str) -> Histogram:
    return _seconds.labels(service, name)
