"""fastchat.gateway.v1 over real gRPC, on top of a scripted RunService that is reached by real gRPC too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from edge import gateway
from edge.auth import Authenticated
from edge.clients import Clients
from edge.store import ThreadStore
from edge.threads import Threads
from fastchat.common.v1 import message_pb2
from fastchat.gateway.v1 import chat_service_pb2 as chat_pb
from fastchat.gateway.v1 import chat_service_pb2_grpc, run_service_pb2_grpc, thread_service_pb2_grpc
from fastchat.gateway.v1 import run_service_pb2 as runs_pb
from fastchat.gateway.v1 import thread_service_pb2 as threads_pb
from fastchat.orchestrator.v1 import run_service_pb2 as orchestrator_pb
from fastchat.orchestrator.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from kit.channel import open_channel
from kit.crypto import Keyring
from kit.db import Database
from kit.db.migrate import upgrade
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache
from tests.unit.edge_chat.runs import STARTED, Runs, complete, text, usage
from tests.unit.edge_chat.site import PRINCIPAL, Audit, Policy, Streams

GOOD = (STARTED, text("Hel"), [text("lo"), usage(), complete("stop")])


class Orchestrator(RunServiceServicer):
    """Serves a script; tells when a caller went away."""

    def __init__(self, *script: Any) -> None:
        self.runs = Runs(*script)
        self.left = asyncio.Event()

    async def StartRun(self, request: orchestrator_pb.StartRunRequest, context: Any) -> AsyncIterator[Any]:
        """Play."""
        try:
            async for response in self.runs.StartRun(request):
                yield response
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def AttachRun(self, request: orchestrator_pb.AttachRunRequest, context: Any) -> AsyncIterator[Any]:
        """Play on."""
        async for response in self.runs.AttachRun(request):
            yield orchestrator_pb.AttachRunResponse(event=response.event, more=response.more)

    async def GetRun(self, request: orchestrator_pb.GetRunRequest, context: Any) -> Any:
        """None is there."""
        await context.abort_with_status(_status(PlatformError(Reason.RUN_NOT_FOUND, "No such run.", id=request.run_id)))


def _status(error: PlatformError) -> Any:
    from grpc_status import rpc_status

    return rpc_status.to_status(error.to_status())


class Authenticator:
    """Knows one key."""

    async def authenticate(self, headers: dict[str, str]) -> Authenticated:
        """By header."""
        if headers.get("authorization") != "Bearer good":
            raise PlatformError(Reason.INVALID_API_KEY, "unknown key")
        return Authenticated(PRINCIPAL, {})


class Partner:
    """A partner's stubs, and what is behind them."""

    def __init__(self, orchestrator: Orchestrator, threads: Threads, channel: grpc.aio.Channel) -> None:
        self.orchestrator = orchestrator
        self.threads_behind = threads
        self.chat = chat_service_pb2_grpc.ChatServiceStub(channel)
        self.runs = run_service_pb2_grpc.RunServiceStub(channel)
        self.threads = thread_service_pb2_grpc.ThreadServiceStub(channel)
        self.metadata = (("authorization", "Bearer good"),)


@pytest.fixture
async def partner(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Partner]:
    await upgrade("edge", home=tmp_path)
    orchestrator = Orchestrator(*getattr(request, "param", GOOD))
    behind, before = grpc.aio.server(), grpc.aio.server()
    add_RunServiceServicer_to_server(orchestrator, behind)
    behind.add_insecure_port(f"unix:{tmp_path}/o.sock")
    async with (
        await Database.open("", "edge", home=tmp_path) as database,
        open_channel(f"unix:{tmp_path}/o.sock") as inner,
        grpc.aio.insecure_channel(f"unix:{tmp_path}/g.sock") as outer,
    ):
        threads = Threads(ThreadStore(database, Keyring.from_home(tmp_path)))
        deps: Any = SimpleNamespace(
            clients=Clients.over(lambda _: inner),
            settings=SettingsCache(),
            policy=Policy(),
            audit=Audit(),
            limits=Streams(),
            threads=threads,
            authenticator=Authenticator(),
        )
        for register in gateway.registrations(deps):
            register(before)
        before.add_insecure_port(f"unix:{tmp_path}/g.sock")
        await behind.start()
        await before.start()
        yield Partner(orchestrator, threads, outer)
        await before.stop(0)
        await behind.stop(0)


def question(**fields: Any) -> chat_pb.Chat:
    message = message_pb2.ChatMessage(role=message_pb2.ROLE_USER, content=[message_pb2.ContentPart(text="q")])
    return chat_pb.Chat(**{"model": "m", "messages": [message], **fields})


@pytest.mark.req("FR-007")
async def test_a_chat_streams_its_events(partner: Partner) -> None:
    call = partner.chat.StreamChat(chat_pb.StreamChatRequest(chat=question()), metadata=partner.metadata)
    events = [response.event async for response in call]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert "".join(delta.text for event in events for delta in event.token.deltas) == "Hello"
    assert events[-1].HasField("complete")


async def test_a_chat_is_answered_at_once_on_a_thread(partner: Partner) -> None:
    made = await partner.threads.CreateThread(threads_pb.CreateThreadRequest(title="t"), metadata=partner.metadata)
    chat = question(thread_id=made.thread.id)
    answer = await partner.chat.CompleteChat(chat_pb.CompleteChatRequest(chat=chat), metadata=partner.metadata)
    assert answer.choices[0].message.content[0].text == "Hello"
    assert (answer.choices[0].finish_reason, answer.usage.total_tokens, answer.thread_id) == (
        "stop",
        12,
        made.thread.id,
    )
    asked = threads_pb.ListMessagesRequest(thread_id=made.thread.id)
    listed = await partner.threads.ListMessages(asked, metadata=partner.metadata)
    assert [stored.message.content[0].text for stored in listed.messages] == ["q", "Hello"]
    watched = partner.runs.WatchRun(
        runs_pb.WatchRunRequest(run_id=answer.run_id, after_sequence=3), metadata=partner.metadata
    )
    assert [response.event.sequence async for response in watched] == [4, 5]


@pytest.mark.req("FR-020")
@pytest.mark.parametrize("partner", [(STARTED, text("Hel"), asyncio.Event())], indirect=True)
async def test_a_partner_that_leaves_cancels_its_plain_run(partner: Partner) -> None:
    call = partner.chat.StreamChat(chat_pb.StreamChatRequest(chat=question()), metadata=partner.metadata)
    async with asyncio.timeout(5):
        await call.read()
        await call.read()
        call.cancel()
        await partner.orchestrator.left.wait()


@pytest.mark.parametrize(
    "chat",
    [
        chat_pb.Chat(model="m"),
        question(messages=[message_pb2.ChatMessage()]),
        question(temperature=3.0),
        question(response_format_json="{"),
        question(options={"extra_json": '{"api_base":"http://elsewhere"}'}),
        question(thread_id="none"),
    ],
)
async def test_a_wrong_chat_is_refused_before_it_starts(partner: Partner, chat: chat_pb.Chat) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await partner.chat.CompleteChat(chat_pb.CompleteChatRequest(chat=chat), metadata=partner.metadata)
    assert partner.orchestrator.runs.started == []


async def test_nobody_gets_in_without_a_key(partner: Partner) -> None:
    for call in (
        partner.chat.CompleteChat(chat_pb.CompleteChatRequest(chat=question())),
        partner.threads.ListThreads(threads_pb.ListThreadsRequest()),
        partner.runs.GetRun(runs_pb.GetRunRequest(run_id="x")),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_reasons_pass_through(partner: Partner) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await partner.runs.GetRun(runs_pb.GetRunRequest(run_id="x"), metadata=partner.metadata)
    assert "No such run." in (caught.value.details() or "")
