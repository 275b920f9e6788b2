"""Ids that follow a request through the mesh: request id and trace, on the task and in metadata."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REQUEST_ID = "x-request-id"
"""HTTP header and gRPC metadata key of the request id."""

_request_id: ContextVar[str] = ContextVar("fastchat_request_id", default="")
_propagator = TraceContextTextMapPropagator()


def current_request_id() -> str:
    """Request id of this task; empty outside a request."""
    return _request_id.get()


def bind_request_id(request_id: str) -> None:
    """Set the request id for the rest of this task."""
    _request_id.set(request_id)


def current_trace_id() -> str:
    """W3C trace id of this task, 32 hex digits; empty outside a trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.trace_id else ""


def inject() -> dict[str, str]:
    """`traceparent` (and `tracestate`, `x-request-id`) of this task, to be kept with a job or sent with a call."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    request_id = _request_id.get()
    if request_id:
        carrier[REQUEST_ID] = request_id
    return carrier


def extract(carrier: Mapping[str, str]) -> Context:
    """The trace that `inject` wrote, as the parent for `tracer.start_span(context=...)`."""
    return _propagator.extract(carrier, Context())


@contextmanager
def continued(carrier: Mapping[str, str]) -> Iterator[None]:
    """Do a block inside the trace and request that `inject` wrote: for jobs."""
    token = attach(extract(carrier))
    before = _request_id.set(carrier.get(REQUEST_ID, ""))
    try:
        yield
    finally:
        _request_id.reset(before)
        detach(token)
