"""Section `telemetry`."""

from typing import Literal

from pydantic import Field

from kit.config import Section


class TelemetryConfig(Section):
    """What a process tells about itself, and where."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """One JSON object a line, or text for people; auto: text on a terminal, JSON elsewhere."""
    otlp_endpoint: str = ""
    """OTLP/gRPC endpoint for traces, such as "http://collector:4317". Empty: OTEL_EXPORTER_OTLP_ENDPOINT, else none."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Part of the traces begun here that is exported. A caller's own decision is followed."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics port."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of /metrics and /health of this process; 0: off."""
    tenant_labels: int = Field(default=20, ge=0, le=10_000)
    """How many tenants are told apart in metrics; the others are counted as "other"."""
    log_content: bool = False
    """Whether prompts and answers may appear in spans. Off: they appear nowhere."""
