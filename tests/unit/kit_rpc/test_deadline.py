"""A deadline narrows along the chain, and the server has one of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from fastchat.common.v1 import scope_service_pb2 as pb
from kit import deadline
from kit import principal as pr
from kit.errors import PlatformError, Reason
from kit.interceptors.call import Method
from kit.interceptors.deadline import DeadlineConfig
from kit.server import ServerConfig
from tests.unit.kit_rpc.scripted import MEMBER, Running, running

REQUEST = pb.EraseScopeRequest()


def test_no_deadline_at_first() -> None:
    assert deadline.remaining() is None
    assert deadline.timeout_for(5) == 5


def test_blocks_only_narrow() -> None:
    with deadline.within(10), deadline.within(100):
        left = deadline.remaining()
        assert left is not None
        assert 9 < left <= 10
        with deadline.unbounded():
            assert deadline.remaining() is None


def test_nothing_left_is_an_error() -> None:
    with deadline.within(0), pytest.raises(PlatformError) as caught:
        deadline.timeout_for(5)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Method("/p.S/Get", False, False), 120),
        (Method("/p.S/List", False, True), 3600),
        (Method("/p.S/WatchSettings", True, True), 0),
        (Method("/p.S/Slow", False, False), 600),
        (Method("/p.S/Full", False, False), 5),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_limit_by_kind_of_method(method: Method, expected: float) -> None:
    assert DeadlineConfig(methods={"Slow": 600, "/p.S/Full": 5}).limit(method) == expected


async def test_handler_inherits_what_the_caller_has_left(mesh: Running) -> None:
    seen: list[float | None] = []

    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        seen.append(deadline.remaining())
        yield pb.ExportScopeResponse()

    async def erase(request: Any, context: Any) -> Any:
        seen.append(deadline.remaining())
        async for _ in mesh.scope.ExportScope(pb.ExportScopeRequest()):
            pass
        return pb.EraseScopeResponse()

    mesh.script.export, mesh.script.erase = export, erase
    with pr.acting_as(MEMBER):
        await mesh.scope.EraseScope(REQUEST, timeout=7)
    first, second = seen
    assert first is not None
    assert second is not None
    assert 6 < first <= 7
    assert 6 < second < first + 0.01  # gRPC counts in whole milliseconds


async def test_callers_deadline_cancels_the_handler(mesh: Running) -> None:
    cancelled = asyncio.Event()

    async def erase(request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    mesh.script.erase = erase
    with pr.acting_as(MEMBER), pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.scope.EraseScope(REQUEST, timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(2):
        await cancelled.wait()


async def test_servers_own_limit_ends_a_call() -> None:
    async def erase(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    config = ServerConfig(deadlines=DeadlineConfig(unary_s=0.05))
    async with running(config=config) as mesh:
        mesh.script.erase = erase
        with pr.acting_as(MEMBER), pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.scope.EraseScope(REQUEST, timeout=30)
    error = PlatformError.from_rpc(caught.value, "scripted")
    assert (error.reason, error.metadata) == (Reason.DEADLINE_EXCEEDED, {"deadline_s": "0.05"})


async def test_handlers_own_timeout_is_a_defect_of_the_handler(mesh: Running) -> None:
    async def erase(request: Any, context: Any) -> Any:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    mesh.script.erase = erase
    with pr.acting_as(MEMBER), pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.scope.EraseScope(REQUEST)
    assert PlatformError.from_rpc(caught.value, "scripted").reason is Reason.INTERNAL


async def test_call_after_the_deadline_is_not_made(mesh: Running) -> None:
    with deadline.within(0), pytest.raises(PlatformError) as caught:
        mesh.scope.EraseScope(REQUEST)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
