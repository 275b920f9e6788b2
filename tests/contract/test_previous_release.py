"""The previous release's generated client drives the servers of today, from outside and inside the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from kit.channel import MeshChannel, open_channel
from kit.principal import Signer, acting_as, load_or_create_mesh_key, service_principal
from tests.support.previous import PreviousRelease
from tests.support.stack import Stack

CHAT, RUNS, THREADS = (f"fastchat.gateway.v1.{name}Service" for name in ("Chat", "Run", "Thread"))
WORDS = 12
PROMPT = f"Tell me of compatibility. [[words:{WORDS}]]"
TENANT = "default"
CHAT_MODE, USER = 1, 3

pytestmark = pytest.mark.req("PR-035")


@pytest.fixture(scope="session")
def previous() -> PreviousRelease:
    return PreviousRelease()


class Partner:
    """A partner's program that was built against the last release."""

    def __init__(self, release: PreviousRelease, channel: grpc.aio.Channel, key: str) -> None:
        self._release = release
        self._channel = channel
        self._options = {"metadata": (("authorization", f"Bearer {key}"),), "timeout": 30}

    def __call__(self, service: str, method: str, **fields: Any) -> Any:
        request = self._release.request(service, method, **fields)
        return self._release.call(self._channel, service, method)(request, **self._options)

    def chat(self, **fields: Any) -> Any:
        """A conversation."""
        return self._release.message("fastchat.gateway.v1.Chat", model="offline", messages=[asked()], **fields)


def asked() -> dict[str, Any]:
    """A user's message."""
    return {"role": USER, "content": [{"text": PROMPT}]}


@pytest.fixture
async def partner(stack: Stack, previous: PreviousRelease) -> AsyncIterator[Partner]:
    async with grpc.aio.insecure_channel(stack.grpc_target) as channel:
        yield Partner(previous, channel, stack.key)


def text_of(events: list[Any]) -> str:
    deltas = [delta for event in events for delta in event.token.deltas]
    return "".join(delta.text for delta in deltas)


async def test_a_partner_chats(partner: Partner) -> None:
    models = (await partner(CHAT, "ListModels")).models
    assert "offline" in [model.alias for model in models]
    events = [told.event async for told in partner(CHAT, "StreamChat", chat=partner.chat())]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len(text_of(events).split()) == WORDS
    assert events[-1].complete.finish_reasons == ["stop"]
    whole = await partner(CHAT, "CompleteChat", chat=partner.chat())
    assert "offline model" in str(whole)


async def test_a_partner_works_on_a_thread(partner: Partner) -> None:
    thread = (await partner(THREADS, "CreateThread", title="Old friends")).thread
    chat = partner.chat(thread_id=thread.id)
    events = [told.event async for told in partner(CHAT, "StreamChat", chat=chat)]
    (run,) = (await partner(RUNS, "ListRuns", thread_id=thread.id)).runs
    assert (await partner(RUNS, "GetRun", run_id=run.run_id)).run.run_id == run.run_id
    again = [told.event async for told in partner(RUNS, "WatchRun", run_id=run.run_id)]
    assert text_of(again) == text_of(events)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await partner(RUNS, "CancelRun", run_id=run.run_id)
    assert ended.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    messages = (await partner(THREADS, "ListMessages", thread_id=thread.id)).messages
    assert len(messages) == 2
    renamed = (await partner(THREADS, "UpdateThread", thread_id=thread.id, title="Older friends")).thread
    assert renamed.title == "Older friends"
    assert (await partner(THREADS, "GetThread", thread_id=thread.id)).thread.title == "Older friends"
    assert thread.id in [found.id for found in (await partner(THREADS, "ListThreads")).threads]
    await partner(THREADS, "DeleteThread", thread_id=thread.id)


@pytest.fixture
async def mesh(stack: Stack) -> AsyncIterator[dict[str, MeshChannel]]:
    """Channels as a service of the last release opens them while a new one is rolled out around it."""
    signer = Signer(load_or_create_mesh_key(Path(stack.home) / "keys" / "mesh.pem"))
    told = stack.environment("edge")
    names = ("orchestrator", "integration", "control")
    channels = {name: open_channel(told[f"FASTCHAT_MESH__ADDRESSES__{name.upper()}"], signer=signer) for name in names}
    with acting_as(service_principal("edge", TENANT)):
        yield channels
    for channel in channels.values():
        await channel.close()


async def test_an_older_edge_runs_runs(previous: PreviousRelease, mesh: dict[str, MeshChannel]) -> None:
    service = "fastchat.orchestrator.v1.RunService"
    request = previous.request(
        service,
        "StartRun",
        tenant_id=TENANT,
        run_id="01890000-0000-7000-8000-00000000abcd",
        call={"tenant_id": TENANT, "model_alias": "offline", "mode": CHAT_MODE, "messages": [asked()]},
        started={
            "public_id": "chatcmpl-1",
            "created": 1_700_000_000,
            "model": "offline",
            "mode": 1,
            "projection_version": 1,
        },
    )
    events: list[Any] = []
    async for told in previous.call(mesh["orchestrator"], service, "StartRun")(request):
        events += [told.event, *told.more]
    assert len(text_of(events).split()) == WORDS
    assert events[-1].HasField("complete")


async def test_an_older_orchestrator_calls_models(previous: PreviousRelease, mesh: dict[str, MeshChannel]) -> None:
    service = "fastchat.integration.v1.ModelService"
    call = {"tenant_id": TENANT, "model_alias": "offline", "mode": CHAT_MODE, "messages": [asked()]}
    request = previous.request(service, "StreamModel", call=call)
    pieces = [told async for told in previous.call(mesh["integration"], service, "StreamModel")(request)]
    assert len(text_of(pieces).split()) == WORDS
    assert pieces[-1].HasField("result")


async def test_an_older_service_hears_of_settings(previous: PreviousRelease, mesh: dict[str, MeshChannel]) -> None:
    service = "fastchat.control.v1.SettingsService"
    first = previous.request(service, "WatchSettings", watcher="edge/older")

    async def requests() -> AsyncIterator[Any]:
        yield first

    with acting_as(service_principal("edge")):
        call = previous.call(mesh["control"], service, "WatchSettings")(requests())
        batch = await call.read()
        call.cancel()
    assert batch.snapshot or batch.resources
    assert {"offline"} <= {resource.name for resource in batch.resources}
