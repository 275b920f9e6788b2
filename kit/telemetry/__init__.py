"""What a process tells about itself: traces, metrics, logs."""

from collections.abc import Sequence
from typing import TextIO

from opentelemetry.sdk.trace import SpanProcessor

from kit.telemetry import logs, metrics, traces
from kit.telemetry.config import TelemetryConfig
from kit.telemetry.context import (
    REQUEST_ID,
    bind_request_id,
    continued,
    current_request_id,
    current_trace_id,
    extract,
    inject,
)
from kit.telemetry.logs import get_logger
from kit.telemetry.metrics import tenant_label
from kit.telemetry.traces import tracer

__all__ = [
    "REQUEST_ID",
    "TelemetryConfig",
    "bind_request_id",
    "continued",
    "current_request_id",
    "current_trace_id",
    "extract",
    "get_logger",
    "inject",
    "metrics",
    "setup",
    "tenant_label",
    "tracer",
]


def setup(
    config: TelemetryConfig, service: str, *, stream: TextIO | None = None, processors: Sequence[SpanProcessor] = ()
) -> None:
    """Configure logs, traces and metrics of this process. `service` names it in every log line and span."""
    logs.configure(config, service, stream)
    traces.configure(config, service, processors)
    metrics.tenant_labels.limit = config.tenant_labels
