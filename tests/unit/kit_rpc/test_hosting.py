"""Services of one process: found by one another, drained from the readers inward."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from fastchat.common.v1 import scope_service_pb2 as pb
from fastchat.common.v1.scope_service_pb2_grpc import ScopeServiceStub
from kit import principal as pr
from kit.config import ConfigError, Section, load
from kit.errors import PlatformError, Reason
from kit.health import Health
from kit.hosting import Hosting
from kit.mesh import Mesh, MeshConfig, Service, open_mesh
from tests.unit.kit_rpc.scripted import MEMBER, Script, service_of

pytestmark = pytest.mark.req("PR-035")


class Nothing(Section):
    """A section without settings."""


@pytest.fixture
async def hosting(tmp_path: Path) -> AsyncIterator[Hosting]:
    """A process without services, without a bus."""
    loaded = load(None, {}, {"mesh": MeshConfig, "inner": Nothing, "outer": Nothing})
    async with AsyncExitStack() as stack:
        mesh = open_mesh(loaded, tmp_path)
        stack.push_async_callback(mesh.close)
        yield Hosting(mesh, stack)


def builder(script: Script, order: list[str], health: Health | None = None) -> Any:
    @asynccontextmanager
    async def build(config: Section, mesh: Mesh) -> AsyncIterator[Service]:
        service = service_of(script, health)

        async def drain(seconds: float) -> None:
            order.append(f"drained {type(config).__name__}")

        service.drain = drain
        yield service
        order.append("closed")

    return build


async def test_later_services_reach_earlier_ones(hosting: Hosting) -> None:
    await hosting.host("inner", builder(Script(), []))
    stub = ScopeServiceStub(hosting.mesh.channel("inner"))
    with pr.acting_as(MEMBER):
        await stub.EraseScope(pb.EraseScopeRequest())


async def test_unknown_service_names_the_setting(hosting: Hosting) -> None:
    with pytest.raises(ConfigError, match="FASTCHAT_MESH__ADDRESSES__KNOWLEDGE"):
        hosting.mesh.channel("knowledge")


async def test_calls_that_outlive_the_drain_hear_why(hosting: Hosting) -> None:
    script = Script()

    async def export(request: Any, context: Any) -> Any:
        yield pb.ExportScopeResponse()
        await asyncio.Event().wait()

    script.export = export
    order: list[str] = []
    await hosting.host("inner", builder(script, order))
    await hosting.host("outer", builder(Script(), order))
    stub = ScopeServiceStub(hosting.mesh.channel("inner"))
    with pr.acting_as(MEMBER):
        call = stub.ExportScope(pb.ExportScopeRequest())
        await call.read()
        async with asyncio.timeout(10):
            await hosting.drain(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert PlatformError.from_rpc(caught.value, "inner").reason is Reason.DRAINING
    assert len(order) == 2


async def test_ready_waits_for_every_service(hosting: Hosting) -> None:
    health = Health(critical=["database"])
    await hosting.host("inner", builder(Script(), [], health))
    await hosting.host("outer", builder(Script(), []))
    waiting = asyncio.create_task(hosting.ready())
    await asyncio.sleep(0)
    assert hosting.report()[0] is False
    health.set("database", True)
    async with asyncio.timeout(2):
        await waiting
    assert hosting.report()[0] is True


async def test_a_process_whose_services_are_not_all_up_is_not_ready(hosting: Hosting) -> None:
    hosting.expected = 2
    assert hosting.report()[0] is False
    await hosting.host("inner", builder(Script(), []))
    assert hosting.report()[0] is False
    await hosting.host("outer", builder(Script(), []))
    assert hosting.report()[0] is True


async def test_report_tells_what_still_works(hosting: Hosting) -> None:
    health = Health()
    await hosting.host("inner", builder(Script(), [], health))
    health.set("control", False, "no answer", "chat goes on")
    ready, report = hosting.report()
    assert ready
    (state,) = report["services"]["scripted"]["dependencies"]  # type: ignore[index]
    assert state == {"name": "control", "ok": False, "detail": "no answer", "impact": "chat goes on"}
