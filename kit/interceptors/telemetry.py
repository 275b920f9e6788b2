"""A span, a count, a duration and the log context around every served call; nothing per message."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from prometheus_client import Counter, Histogram

from kit import admission
from kit.ids import new_id
from kit.interceptors.call import Method, ServerCall
from kit.telemetry import REQUEST_ID, bind_request_id, extract, metrics, tracer

_tracer = tracer(__name__)
_served = metrics.counter("fastchat_rpc_server_total", "Calls served.", ("service", "method", "code"))
_seconds = metrics.histogram("fastchat_rpc_server_seconds", "Duration of served calls.", ("service", "method"))

# From outside, a request id may be anything: it ends in logs and headers.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

# Codes that tell of a defect or an outage on this side (OpenTelemetry's rule for rpc server spans).
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


@contextmanager
def observed(call: ServerCall) -> Iterator[None]:
    """Continue the caller's trace and request id (or begin them) for the rest of this task, and report the end."""
    method = call.method
    parent = extract({key: call.text(key) for key in ("traceparent", "tracestate") if key in call.metadata})
    span = _tracer.start_span(method.path[1:], context=parent, kind=SpanKind.SERVER)
    if span.is_recording():
        _describe(span, method)
    otel_context.attach(trace.set_span_in_context(span, parent))  # never detached: the task is the call
    bind_request_id(_request_id(call))
    admission.bind_class(call.work_class)
    began = time.perf_counter()
    try:
        yield
    finally:
        code = call.code
        _count_of(method, code).inc()
        _duration_of(method).observe(time.perf_counter() - began)
        if span.is_recording():
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code in _FAULTS:
                span.set_status(Status(StatusCode.ERROR, code.name))
        span.end()


def _request_id(call: ServerCall) -> str:
    told = call.text(REQUEST_ID)
    return told if _REQUEST_ID.fullmatch(told) else new_id("req_")


@cache  # finding a labelled child costs more than counting in it
def _count_of(method: Method, code: grpc.StatusCode) -> Counter:
    return _served.labels(method.service, method.name, code.name)


@cache
def _duration_of(method: Method) -> Histogram:
    return _seconds.labels(method.service, method.name)


def _describe(span: Span, method: Method) -> None:
    span.set_attributes({"rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name})
