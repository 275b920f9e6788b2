"""OpenTelemetry traces. Without an exporter spans are not recorded, yet every request has a trace id."""

import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult, TraceIdRatioBased

from kit.telemetry.config import TelemetryConfig


class _Switch(Sampler):
    """Drops everything until somebody exports: a dropped span has ids all the same, at a tenth of the cost."""

    inner: Sampler = ALWAYS_OFF

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return self.inner.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return self.inner.get_description()


_provider: TracerProvider | None = None
_sampler = _Switch()


def tracer(name: str) -> trace.Tracer:
    """The tracer of a module. Modules may ask before `configure`: the tracer follows the provider set later."""
    return trace.get_tracer(name)


def configure(config: TelemetryConfig, service: str, processors: Sequence[SpanProcessor] = ()) -> TracerProvider:
    """Install the process's tracer provider, once; later calls only add their processors.

    Spans are recorded and exported when an OTLP endpoint is configured or `processors` are given (tests).
    """
    global _provider
    endpoint = config.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if _provider is None:
        resource = Resource.create(
            {
                "service.name": f"fastchat-{service}",
                "service.version": version("fastchat"),
                "service.namespace": "fastchat",
            }
        )
        _provider = TracerProvider(resource=resource, sampler=_sampler)
        trace.set_tracer_provider(_provider)
        if endpoint:
            _provider.add_span_processor(_otlp(endpoint))
    for processor in processors:
        _provider.add_span_processor(processor)
    if endpoint or processors:
        _sampler.inner = ParentBased(TraceIdRatioBased(config.sample_ratio))
    return _provider


def shutdown() -> None:
    """Export what is buffered. Blocks for at most some seconds: call it from a thread when a loop runs."""
    if _provider is not None:
        _provider.force_flush(timeout_millis=2000)


def _otlp(endpoint: str) -> SpanProcessor:
    # imported here: half a second and 20 MB that nobody without a collector should pay
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https:")))
