"""The service as the mesh sees it: built, served, filled by control, called over gRPC."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from fastchat.control.v1.settings_service_pb2 import ResourceKind, WatchSettingsRequest, WatchSettingsResponse
from fastchat.control.v1.settings_service_pb2_grpc import SettingsServiceServicer, add_SettingsServiceServicer_to_server
from fastchat.integration.v1.model_service_pb2 import (
    CallModelRequest,
    CountTokensRequest,
    ListModelsRequest,
    StreamModelRequest,
)
from fastchat.integration.v1.model_service_pb2_grpc import ModelServiceStub
from integration.app import build
from integration.config import IntegrationConfig
from kit.channel import open_channel
from kit.config import load
from kit.crypto import Keyring
from kit.errors import PlatformError, Reason
from kit.health import Health
from kit.mesh import Mesh, Service
from kit.principal import MeshKey, Signer, Verifier
from kit.process import SECTIONS
from kit.server import serve
from kit.tasks import Tasks
from tests.support.upstream import KEY, Behaviour, Upstream
from tests.unit.integration.world import OFFLINE, POLICY, TENANT, chat, member, resource, until

pytestmark = pytest.mark.req("PR-001")


class Control(SettingsServiceServicer):
    """Tells one snapshot, then keeps the stream open."""

    def __init__(self, snapshot: WatchSettingsResponse) -> None:
        self._snapshot = snapshot

    async def WatchSettings(
        self, request: AsyncIterator[WatchSettingsRequest], context: grpc.aio.ServicerContext[object, object]
    ) -> AsyncIterator[WatchSettingsResponse]:
        yield self._snapshot
        async for _ in request:
            pass


class Running:
    """The service and a stub for it."""

    def __init__(self, service: Service, stub: ModelServiceStub) -> None:
        self.service = service
        self.stub = stub


@pytest.fixture
async def running(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Running]:
    key = MeshKey.generate()
    litellm = {"model": "openai/gpt", "api_base": upstream.url, "api_key": KEY}
    snapshot = WatchSettingsResponse(
        revision=1,
        snapshot=True,
        resources=[
            resource(ResourceKind.RESOURCE_KIND_POLICY, "builtin", {"cedar": POLICY.read_text(), "enabled": True}),
            resource(ResourceKind.RESOURCE_KIND_MODEL, "offline", OFFLINE),
            resource(ResourceKind.RESOURCE_KIND_MODEL, "gpt", {"alias": "gpt", "litellm": litellm, "retries": 0}),
        ],
    )
    control = Service(
        name="control",
        health=Health(),
        registrations=[lambda server: add_SettingsServiceServicer_to_server(Control(snapshot), server)],
    )

    def mesh(addresses: dict[str, str]) -> Mesh:
        return Mesh(
            home=tmp_path,
            replica="h1",
            profile="oss",
            addresses=addresses,
            signer=Signer(key),
            verifier=Verifier.of(key),
            tls=None,
            bus=None,
            keyring=Keyring.from_home(tmp_path),
            config=load(None, {}, SECTIONS),
        )

    async with AsyncExitStack() as stack:
        told = await stack.enter_async_context(serve(control, mesh({}), "127.0.0.1:0"))
        own = mesh({"control": told.address})
        stack.push_async_callback(own.close)
        service = await stack.enter_async_context(build(IntegrationConfig(), own))
        served = await stack.enter_async_context(serve(service, own, "127.0.0.1:0"))
        channel = await stack.enter_async_context(open_channel(served.address, signer=own.signer))
        tasks = Tasks("test")
        stack.push_async_callback(tasks.cancel)
        tasks.start(service.background)
        await until(lambda: service.health.ready)
        stack.enter_context(member())
        yield Running(service, ModelServiceStub(channel))


async def test_a_chat_streams_over_grpc(running: Running) -> None:
    pieces = [piece async for piece in running.stub.StreamModel(StreamModelRequest(call=chat("gpt")))]
    assert [piece.WhichOneof("piece") for piece in pieces][-1] == "result"
    answer = await running.stub.CallModel(CallModelRequest(call=chat("gpt")))
    text = "".join(delta.text for piece in pieces for delta in piece.token.deltas)
    assert text == answer.result.choices[0].message.content[0].text


async def test_cancelling_the_rpc_closes_the_providers_request_within_200_ms(
    running: Running, upstream: Upstream
) -> None:
    upstream.behave("gpt", Behaviour(hang_after=3))
    call = running.stub.StreamModel(StreamModelRequest(call=chat("gpt")))
    await call.read()
    left = time.monotonic()
    call.cancel()
    await upstream.until(lambda: upstream.calls[0].disconnected_at is not None)
    assert (upstream.calls[0].disconnected_at or 0) - left < 0.2


async def test_a_deadline_closes_it_too(running: Running, upstream: Upstream) -> None:
    upstream.behave("gpt", Behaviour(hang=True))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await running.stub.CallModel(CallModelRequest(call=chat("gpt")), timeout=0.3)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await upstream.until(lambda: upstream.calls[0].disconnected_at is not None)


async def test_models_are_listed_and_tokens_counted(running: Running) -> None:
    listed = await running.stub.ListModels(ListModelsRequest(tenant_id=TENANT))
    assert [model.alias for model in listed.models] == ["gpt", "offline"]
    counted = await running.stub.CountTokens(
        CountTokensRequest(tenant_id=TENANT, model_alias="offline", input=["one two"])
    )
    assert (counted.tokens, counted.exact) == (2, True)


async def test_errors_carry_their_reason(running: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await running.stub.CallModel(CallModelRequest(call=chat("absent")))
    assert PlatformError.from_rpc(failed.value, "integration").reason is Reason.MODEL_NOT_FOUND


async def test_another_tenants_call_is_refused(running: Running) -> None:
    call = chat("gpt")
    call.tenant_id = "other"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await running.stub.CallModel(CallModelRequest(call=call))
    assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_readiness_names_every_model(running: Running) -> None:
    await until(lambda: len(running.service.health.snapshot()) == 4)
    names = [state.name for state in running.service.health.snapshot() if state.ok]
    assert names == ["control", "model gpt", "model offline", "settings"]
