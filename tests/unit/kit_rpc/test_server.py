"""What every server does around a handler."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fastchat.common.v1 import scope_service_pb2 as pb
from fastchat.control.v1 import settings_service_pb2 as settings_pb
from kit import principal as pr
from kit.admission import BATCH, AdmissionConfig, current_class, working_as
from kit.config import ConfigError
from kit.errors import STATUS_KEY, PlatformError, Reason
from kit.health import Health
from kit.interceptors.call import ServerCall
from kit.server import ServerConfig
from tests.unit.kit_rpc.scripted import MEMBER, PLATFORM, SCOPE, Peer, Running, running, until

REQUEST = pb.EraseScopeRequest(scope=pb.Scope(tenant_id="acme"))


async def failure(call: Any) -> PlatformError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return PlatformError.from_rpc(caught.value, "scripted")


async def ticking(request: Any, context: Any) -> AsyncIterator[Any]:
    """Rows without end."""
    while True:
        yield pb.ExportScopeResponse(table="t")
        await asyncio.sleep(0)


async def silent(request: Any, context: Any) -> AsyncIterator[Any]:
    """A stream that never says anything."""
    await asyncio.Event().wait()
    yield


async def test_handler_sees_the_caller(mesh: Running) -> None:
    async def erase(request: Any, context: Any) -> Any:
        return pb.EraseScopeResponse(rows={pr.current().subject: pr.current().hops})

    mesh.script.erase = erase
    with pr.acting_as(MEMBER):
        answer = await mesh.scope.EraseScope(REQUEST)
    assert dict(answer.rows) == {"key:1": 0}


@pytest.mark.req("PR-030")
async def test_caller_without_principal_is_refused(mesh: Running) -> None:
    assert (await failure(mesh.scope.EraseScope(REQUEST))).reason is Reason.MISSING_CREDENTIALS


@pytest.mark.req("PR-030")
async def test_caller_of_another_mesh_is_refused(mesh: Running) -> None:
    blob = Peer().signer.sign(MEMBER)
    call = mesh.scope.EraseScope(REQUEST, metadata=((pr.METADATA_KEY, blob),))
    assert (await failure(call)).reason is Reason.INVALID_API_KEY


async def test_platform_error_arrives_whole(mesh: Running) -> None:
    async def erase(request: Any, context: Any) -> Any:
        raise PlatformError(Reason.THREAD_BUSY, "Somebody reads it.", retry_after_s=2, run_id="r1")

    mesh.script.erase = erase
    with pr.acting_as(MEMBER):
        error = await failure(mesh.scope.EraseScope(REQUEST))
    assert (error.reason, error.message, error.metadata) == (Reason.THREAD_BUSY, "Somebody reads it.", {"run_id": "r1"})
    assert error.retry_after_s == 2


async def test_error_in_mid_stream_arrives_whole(mesh: Running) -> None:
    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        yield pb.ExportScopeResponse(table="t")
        raise PlatformError(Reason.STORAGE_UNAVAILABLE, "Disk full.")

    mesh.script.export = export
    with pr.acting_as(MEMBER):
        call = mesh.scope.ExportScope(pb.ExportScopeRequest())
        assert (await call.read()).table == "t"
        assert (await failure(call.read())).reason is Reason.STORAGE_UNAVAILABLE


async def test_unknown_exception_leaks_nothing_but_a_trace_id(mesh: Running) -> None:
    async def erase(request: Any, context: Any) -> Any:
        raise RuntimeError("password=hunter2 in /etc/fastchat")

    mesh.script.erase = erase
    with pr.acting_as(MEMBER), pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.scope.EraseScope(REQUEST)
    trailers = dict(caught.value.trailing_metadata())
    status = Status.FromString(trailers[STATUS_KEY])
    assert "hunter2" not in f"{caught.value.details()} {status}"
    error = PlatformError.from_rpc(caught.value, "scripted")
    assert error.reason is Reason.INTERNAL
    assert len(error.metadata["trace_id"]) == 32


async def test_error_of_a_service_behind_passes_through(mesh: Running) -> None:
    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        raise PlatformError(Reason.MODEL_NOT_FOUND, "No such model.", model="gpt-9")
        yield

    async def erase(request: Any, context: Any) -> Any:
        return await mesh.scope.ExportScope(pb.ExportScopeRequest()).read()

    mesh.script.export, mesh.script.erase = export, erase
    with pr.acting_as(MEMBER):
        error = await failure(mesh.scope.EraseScope(REQUEST))
    assert (error.reason, error.metadata) == (Reason.MODEL_NOT_FOUND, {"model": "gpt-9"})


async def test_unknown_method_is_not_implemented(mesh: Running) -> None:
    call = mesh.channel.unary_unary(f"/{SCOPE}/Nothing")
    assert (await failure(call(b""))).reason is Reason.NOT_IMPLEMENTED


async def test_message_over_the_limit_is_refused() -> None:
    async with running(config=ServerConfig(max_message_bytes=4096)) as mesh:
        with pr.acting_as(MEMBER):
            error = await failure(mesh.scope.EraseScope(pb.EraseScopeRequest(scope=pb.Scope(subject="x" * 5000))))
    assert error.reason is Reason.PAYLOAD_TOO_LARGE


@pytest.mark.req("FR-020")
async def test_cancellation_reaches_the_handler_in_its_own_task(mesh: Running) -> None:
    began, ended = asyncio.Event(), asyncio.Event()
    seen: list[object] = []

    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        task = asyncio.current_task()
        try:
            began.set()
            async for row in ticking(request, context):
                yield row
        finally:
            seen.append(asyncio.current_task() is task)
            ended.set()

    mesh.script.export = export
    with pr.acting_as(MEMBER):
        call = mesh.scope.ExportScope(pb.ExportScopeRequest())
        await began.wait()
        await call.read()
        call.cancel()
    async with asyncio.timeout(2):
        await ended.wait()
    assert seen == [True]


@pytest.mark.req("FR-020")
async def test_cancellation_travels_the_chain(mesh: Running) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        began.set()
        try:
            async for row in silent(request, context):
                yield row
        finally:
            ended.set()

    async def erase(request: Any, context: Any) -> Any:
        async for _ in mesh.scope.ExportScope(pb.ExportScopeRequest()):
            pass
        return pb.EraseScopeResponse()

    mesh.script.export, mesh.script.erase = export, erase
    with pr.acting_as(MEMBER):
        call = mesh.scope.EraseScope(REQUEST)
        await began.wait()
        call.cancel()
    async with asyncio.timeout(2):
        await ended.wait()


async def test_class_of_work_travels(mesh: Running) -> None:
    seen: list[str] = []

    async def erase(request: Any, context: Any) -> Any:
        seen.append(current_class())
        return pb.EraseScopeResponse()

    mesh.script.erase = erase
    with pr.acting_as(MEMBER):
        await mesh.scope.EraseScope(REQUEST)
        with working_as(BATCH):
            await mesh.scope.EraseScope(REQUEST)
    assert seen == ["interactive", "batch"]


@pytest.mark.req("PR-033")
async def test_server_refuses_over_its_limit_and_says_when_to_come_back() -> None:
    config = ServerConfig(admission=AdmissionConfig(interactive=1))
    async with running(config=config) as mesh:
        mesh.script.export = ticking
        with pr.acting_as(MEMBER):
            call = mesh.scope.ExportScope(pb.ExportScopeRequest())
            await call.read()
            error = await failure(mesh.scope.EraseScope(REQUEST))
            assert (error.reason, error.metadata) == (Reason.OVERLOADED, {"class": "interactive"})
            assert error.retry_after_s
            with working_as(BATCH):
                await mesh.scope.EraseScope(REQUEST)
            call.cancel()


@pytest.mark.req("FR-030")
async def test_health_follows_critical_dependencies() -> None:
    health = Health(critical=["database"])
    async with running(health=health) as mesh:
        stub = health_pb2_grpc.HealthStub(mesh.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SCOPE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.set("database", True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        health.set("bus", False, "no route", "plain chat")
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_reflection_lists_the_services(mesh: Running) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(mesh.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    listed = {found.name for found in (await call.read()).list_services_response.service}
    call.cancel()
    assert {SCOPE, "grpc.health.v1.Health"} <= listed


async def test_drain_lets_streams_end_and_refuses_new_calls(mesh: Running) -> None:
    go = asyncio.Event()

    async def export(request: Any, context: Any) -> AsyncIterator[Any]:
        yield pb.ExportScopeResponse(table="first")
        await go.wait()
        yield pb.ExportScopeResponse(table="last")

    mesh.script.export = export
    with pr.acting_as(MEMBER):
        call = mesh.scope.ExportScope(pb.ExportScopeRequest())
        await call.read()
        draining = asyncio.create_task(mesh.server.drain(10))
        await until(lambda: mesh.server.admission.draining)
        assert (await failure(mesh.scope.EraseScope(REQUEST))).reason in (
            Reason.DRAINING,
            Reason.DEPENDENCY_UNAVAILABLE,
        )
        go.set()
        assert (await call.read()).table == "last"
    await draining


async def test_drain_ends_subscriptions_at_once(mesh: Running) -> None:
    async def watch(requests: Any, context: Any) -> AsyncIterator[Any]:
        yield settings_pb.WatchSettingsResponse()
        async for nothing in silent(requests, context):
            yield nothing

    mesh.script.watch = watch
    with pr.acting_as(PLATFORM):
        call = mesh.settings.WatchSettings()
        await call.write(settings_pb.WatchSettingsRequest(watcher="edge/1"))
        await call.read()
        async with asyncio.timeout(5):
            await mesh.server.drain(60)
        assert (await failure(call.read())).reason is Reason.DRAINING


async def test_calls_that_outlive_the_drain_are_told_to_go_elsewhere(mesh: Running) -> None:
    mesh.script.export = silent
    with pr.acting_as(MEMBER):
        call = mesh.scope.ExportScope(pb.ExportScopeRequest())
        await until(lambda: mesh.server.admission.in_flight > 0)
        async with asyncio.timeout(5):
            await mesh.server.drain(0.05)
        assert (await failure(call.read())).reason is Reason.DRAINING


async def test_unix_socket_is_private_and_a_dead_one_is_replaced(tmp_path: Any) -> None:
    path = tmp_path / "s.sock"
    async with running(bind=f"unix:{path}") as mesh:
        assert path.stat().st_mode & 0o077 == 0
        with pr.acting_as(MEMBER):
            await mesh.scope.EraseScope(REQUEST)
        with pytest.raises(ConfigError, match="another process does"):
            async with running(bind=f"unix:{path}"):
                pass
    path.touch()  # what a killed process leaves
    async with running(bind=f"unix:{path}") as mesh:
        with pr.acting_as(MEMBER):
            await mesh.scope.EraseScope(REQUEST)
    assert not path.exists()


async def test_port_in_use_is_one_clear_line(mesh: Running) -> None:
    with pytest.raises(ConfigError, match=rf"cannot listen on {mesh.server.address}: Address already in use"):
        async with running(bind=mesh.server.address):
            pass


async def test_too_long_socket_path_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="at most 100 bytes"):
        async with running(bind=f"unix:/tmp/{'x' * 120}.sock"):
            pass


async def test_public_port_authenticates_its_own_way_and_trusts_no_class() -> None:
    async def authenticate(call: ServerCall) -> Any:
        if call.text("authorization") != "Bearer fc-1":
            raise PlatformError(Reason.INVALID_API_KEY, "Unknown key.")
        return MEMBER

    seen: list[str] = []

    async def erase(request: Any, context: Any) -> Any:
        seen.append(current_class())
        return pb.EraseScopeResponse()

    async with running(authenticate=authenticate) as mesh:
        mesh.script.erase = erase
        assert (await failure(mesh.scope.EraseScope(REQUEST))).reason is Reason.INVALID_API_KEY
        with working_as(BATCH):
            await mesh.scope.EraseScope(REQUEST, metadata=(("authorization", "Bearer fc-1"),))
    assert seen == ["interactive"]
