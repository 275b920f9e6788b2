"""Fixtures of the kit's tests."""

from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit.telemetry import TelemetryConfig, traces
from tests.unit.kit_rpc.scripted import Clock, Running, running


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Every span of this process from the first use on. OpenTelemetry knows one provider a process."""
    found = InMemorySpanExporter()
    traces.configure(TelemetryConfig(), "test", [SimpleSpanProcessor(found)])
    return found


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    """The spans of this test: `spans.get_finished_spans()`."""
    exporter.clear()
    return exporter


@pytest.fixture
async def mesh(exporter: InMemorySpanExporter) -> AsyncIterator[Running]:
    """A running script with defaults."""
    async with running() as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    """Time that the test moves."""
    return Clock()
