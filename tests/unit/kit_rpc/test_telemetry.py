"""One trace over the chain, bounded metrics, and logs that tell ids but no text."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import httpx
import orjson
import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from fastchat.common.v1 import scope_service_pb2 as pb
from kit import principal as pr
from kit.errors import PlatformError, Reason
from kit.telemetry import (
    TelemetryConfig,
    bind_request_id,
    continued,
    current_request_id,
    current_trace_id,
    get_logger,
    inject,
    logs,
    metrics,
    tracer,
)
from kit.telemetry.exposition import serve_metrics
from tests.unit.kit_rpc.scripted import MEMBER, Running

ERASE = "fastchat.common.v1.ScopeService/EraseScope"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where JSON log lines go; logging is as before after the test."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    out = io.StringIO()
    logs.configure(TelemetryConfig(log_format="json"), "test", out)
    yield out
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.req("PR-032")
async def test_one_trace_over_the_chain(mesh: Running, spans: InMemorySpanExporter) -> None:
    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        yield pb.ExportScopeResponse(table=current_trace_id())

    async def erase(request: Any, context: Any) -> Any:
        row = await mesh.scope.ExportScope(pb.ExportScopeRequest()).read()
        return pb.EraseScopeResponse(rows={row.table: 1})

    mesh.script.export, mesh.script.erase = export, erase
    with pr.acting_as(MEMBER), tracer("test").start_as_current_span("outermost"):
        trace_id = current_trace_id()
        answer = await mesh.scope.EraseScope(pb.EraseScopeRequest())
    assert list(answer.rows) == [trace_id]
    found = [span for span in spans.get_finished_spans() if span.name == ERASE]
    assert {span.kind for span in found} == {SpanKind.CLIENT, SpanKind.SERVER}
    assert {f"{span.context.trace_id:032x}" for span in found} == {trace_id}
    client, server = sorted(found, key=lambda span: span.kind is SpanKind.SERVER)
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    assert server.attributes is not None
    assert server.attributes["rpc.method"] == "EraseScope"


@pytest.mark.req("PR-032")
async def test_failed_call_is_told_in_its_span_and_count(mesh: Running, spans: InMemorySpanExporter) -> None:
    async def erase(request: Any, context: Any) -> Any:
        raise PlatformError(Reason.STORAGE_UNAVAILABLE, "Disk full.")

    def count() -> float:
        labels = {"service": "fastchat.common.v1.ScopeService", "method": "EraseScope", "code": "UNAVAILABLE"}
        return metrics.registry.get_sample_value("fastchat_rpc_server_total", labels) or 0.0

    before = count()
    mesh.script.erase = erase
    with pr.acting_as(MEMBER), pytest.raises(grpc.aio.AioRpcError):
        await mesh.scope.EraseScope(pb.EraseScopeRequest())
    (server,) = (span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER)
    assert not server.status.is_ok
    assert count() == before + 1


async def test_request_id_travels(mesh: Running) -> None:
    seen: list[str] = []

    async def erase(request: Any, context: Any) -> Any:
        seen.append(current_request_id())
        return pb.EraseScopeResponse()

    async def call() -> None:
        bind_request_id("req_from_edge")
        with pr.acting_as(MEMBER):
            await mesh.scope.EraseScope(pb.EraseScopeRequest())

    mesh.script.erase = erase
    await asyncio.create_task(call())
    assert seen == ["req_from_edge"]


async def test_request_id_that_could_forge_a_log_line_is_replaced(mesh: Running) -> None:
    seen: list[str] = []

    async def erase(request: Any, context: Any) -> Any:
        seen.append(current_request_id())
        return pb.EraseScopeResponse()

    mesh.script.erase = erase
    with pr.acting_as(MEMBER):
        await mesh.scope.EraseScope(pb.EraseScopeRequest(), metadata=(("x-request-id", "a b{evil}"),))
    assert seen[0].startswith("req_")


@pytest.mark.req("PR-032")
def test_trace_travels_through_jobs(exporter: InMemorySpanExporter) -> None:
    with tracer("test").start_as_current_span("request"):
        trace_id, carrier = current_trace_id(), inject()
    assert current_trace_id() == ""
    with continued(carrier), tracer("test").start_as_current_span("job"):
        assert current_trace_id() == trace_id
    assert current_trace_id() == ""


class FullDisk(io.StringIO):
    """A stream that takes nothing."""

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_costs_log_lines_and_nothing_else() -> None:
    lost = metrics.registry.get_sample_value("fastchat_log_lines_lost_total") or 0.0
    logs.configure(TelemetryConfig(log_format="json"), "tests", FullDisk())
    get_logger("tests").info("request")
    logging.getLogger("library").warning("trouble")
    assert (metrics.registry.get_sample_value("fastchat_log_lines_lost_total") or 0.0) > lost


def test_public_metrics_are_added_up_over_tenants() -> None:
    counted = metrics.counter("test_untold_total", "Counted.", ("route", "tenant"))
    counted.labels("/a", "acme").inc(2)
    counted.labels("/a", "beta").inc(3)
    timed = metrics.histogram("test_untold_seconds", "Timed.", ("tenant",), buckets=(1.0,))
    timed.labels("acme").observe(0.5)
    timed.labels("beta").observe(2)
    told = metrics.exposition(tenants=False).decode()
    assert 'tenant="' not in told
    assert 'test_untold_total{route="/a"} 5.0' in told
    assert 'test_untold_seconds_bucket{le="1.0"} 1.0' in told
    assert 'test_untold_seconds_bucket{le="+Inf"} 2.0' in told
    assert "test_untold_seconds_sum 2.5" in told
    assert 'tenant="acme"' in metrics.exposition().decode()


def test_tenant_is_a_label_only_up_to_the_limit() -> None:
    label = metrics.TenantLabels(limit=2)
    assert [label(tenant) for tenant in ("a", "b", "c", "a", "", "d")] == ["a", "b", "other", "a", "other", "other"]


def test_metric_is_made_once() -> None:
    first = metrics.counter("fastchat_test_total", "A test.", ("kind",))
    assert metrics.counter("fastchat_test_total", "A test.", ("kind",)) is first
    with pytest.raises(TypeError, match="is a Counter"):
        metrics.gauge("fastchat_test_total", "A test.")


@pytest.mark.req("FR-033")
def test_log_line_tells_ids(lines: io.StringIO, exporter: InMemorySpanExporter) -> None:
    log = get_logger("edge.chat")
    with tracer("test").start_as_current_span("request"):
        log.info("run ended", run_id="r1")
        trace_id = current_trace_id()
    (event,) = events(lines)
    expected = {"event": "run ended", "run_id": "r1", "logger": "edge.chat", "service": "test", "level": "info"}
    assert expected.items() <= event.items()
    assert event["trace_id"] == trace_id


@pytest.mark.req("FR-033")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_traceback_tells_no_local_variables(lines: io.StringIO, log_format: Any) -> None:
    logs.configure(TelemetryConfig(log_format=log_format), "test", lines)
    prompt = "my secret prompt"
    try:
        raise RuntimeError(f"{len(prompt)} characters")
    except RuntimeError:
        get_logger("x").exception("it failed")
    assert "RuntimeError" in lines.getvalue()
    assert "my secret prompt" not in lines.getvalue()


@pytest.mark.req("FR-033")
def test_libraries_log_in_the_same_format(lines: io.StringIO) -> None:
    logging.getLogger("some.library").warning("low on %s", "disk")
    logging.getLogger("httpx").info("GET /")
    (event,) = events(lines)
    assert (event["event"], event["logger"], event["level"]) == ("low on disk", "some.library", "warning")


@pytest.mark.req("FR-033")
def test_level_is_a_setting(lines: io.StringIO) -> None:
    logs.configure(TelemetryConfig(log_level="warning", log_format="console"), "test", lines)
    get_logger("x").info("quiet")
    get_logger("x").warning("loud")
    assert "quiet" not in lines.getvalue()
    assert "loud" in lines.getvalue()


@pytest.mark.req("FR-030")
async def test_metrics_port() -> None:
    state = {"ready": True}
    async with (
        serve_metrics("127.0.0.1", 0, lambda: (state["ready"], {"status": "x"})) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        text = (await client.get("/metrics")).text
        healthy = await client.get("/health")
        state["ready"] = False
        codes = [
            (await client.get("/health")).status_code,
            (await client.get("/other")).status_code,
            (await client.post("/metrics")).status_code,
        ]
    assert "process_resident_memory_bytes" in text
    assert (healthy.status_code, orjson.loads(healthy.content)) == (200, {"status": "x"})
    assert codes == [503, 404, 405]
