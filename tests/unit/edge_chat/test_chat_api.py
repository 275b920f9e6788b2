"""POST /v1/chat/completions: streams, answers at once, errors, departures, threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import orjson
import pytest

from edge import run_reader
from edge.history import History
from edge.threads import Threads
from fastchat.common.v1 import event_pb2 as pb
from kit.errors import PlatformError, Reason
from tests.unit.edge_chat.runs import STARTED, Break, Runs, complete, delta, failed, text, usage
from tests.unit.edge_chat.site import PRINCIPAL, Policy, Site

STATUS = pb.StatusPayload(kind=pb.STATUS_KIND_THINKING, message="Thinking")
GOOD = (STARTED, text("Hel"), [text("lo"), usage(), complete("stop")])

Make = Callable[..., Site]


@pytest.fixture
def site(threads: Threads) -> Make:
    def make(*script: Any, **options: Any) -> Site:
        return Site(Runs(*script), threads, **options)

    return make


async def messages(threads: Threads, thread_id: str) -> list[str]:
    stored, _ = await threads.messages(PRINCIPAL, thread_id, 0, "")
    return [message.message.content[0].text for message in stored]


def deltas(writes: list[bytes]) -> str:
    chunks = [orjson.loads(write.partition(b"data: ")[2]) for write in writes if not write.endswith(b"[DONE]\n\n")]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))


@pytest.mark.req("FR-007")
@pytest.mark.req("FR-010")
async def test_a_stream_is_one_write_an_event_and_ends_with_done(site: Make) -> None:
    edge = site(*GOOD)
    answer = await edge.chat(stream=True)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert "content-length" not in answer.headers
    assert answer.headers["x-fastchat-run-id"] == edge.runs.started[0].run_id
    assert all(write.count(b"\n\n") == 1 and write.endswith(b"\n\n") for write in answer.writes)
    assert deltas(answer.writes) == "Hello"
    assert answer.writes[-1] == b"data: [DONE]\n\n"
    assert b"event:" not in answer.body
    assert edge.limits.open == 0


async def test_an_answer_at_once_has_everything(site: Make) -> None:
    script = (
        STARTED,
        delta(pb.TOKEN_KIND_REASONING, "hm"),
        text("a", logprobs_json='[{"token":"a","logprob":0,"bytes":[97],"top_logprobs":[]}]'),
        delta(pb.TOKEN_KIND_TOOL_ARGUMENTS, "{", choice_index=1, tool_call_id="c1", tool_name="f"),
        delta(pb.TOKEN_KIND_TOOL_ARGUMENTS, "}", choice_index=1),
        usage(),
        complete("stop", "tool_calls"),
    )
    edge = site(*script)
    answer = await edge.chat(n=2)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    body = answer.json
    first, second = body["choices"]
    assert (body["object"], body["model"], body["usage"]["total_tokens"]) == ("chat.completion", "m", 12)
    assert first["message"]["content"] == "a"
    assert first["message"]["reasoning_content"] == "hm"
    assert first["logprobs"]["content"][0]["token"] == "a"
    assert (second["message"]["content"], second["finish_reason"]) == (None, "tool_calls")
    assert second["message"]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    assert orjson.loads(edge.runs.started[0].started.projection_json) == {"stream": False, "n": 2}


async def test_a_plain_run_is_not_durable_and_asks_for_no_usage_events(site: Make) -> None:
    edge = site(*GOOD)
    await edge.chat(stream=True)
    (request,) = edge.runs.started
    assert (request.durable, request.usage_events, request.thread_id) == (False, False, "")
    assert request.tenant_id == request.call.tenant_id == "t1"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        (Reason.MODEL_NOT_FOUND, 404, "invalid_request_error"),
        (Reason.UPSTREAM_RATE_LIMITED, 429, None),
        (Reason.UPSTREAM_TIMEOUT, 504, None),
        (Reason.CONTEXT_LENGTH_EXCEEDED, 400, "invalid_request_error"),
    ],
)
async def test_a_failure_before_the_first_byte_is_an_http_error(
    site: Make, stream: bool, reason: Reason, status: int, kind: str | None
) -> None:
    edge = site(STARTED, [usage(), failed(reason)])
    answer = await edge.chat(stream=stream)
    assert answer.status == status
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    if kind:
        assert answer.json["error"]["type"] == kind
    assert edge.limits.open == 0


async def test_a_failure_after_it_is_told_in_the_stream(site: Make) -> None:
    answer = await site(STARTED, text("Hel"), [usage(), failed(Reason.UPSTREAM_INTERRUPTED)]).chat(stream=True)
    assert answer.status == 200
    assert answer.writes[-2].startswith(b'data: {"error":{"message":"the provider failed"')
    assert answer.writes[-1] == b"data: [DONE]\n\n"


async def test_a_replica_that_dies_under_a_plain_stream_is_told_in_it(site: Make) -> None:
    answer = await site(STARTED, text("Hel"), Break()).chat(stream=True)
    assert b'"code":"dependency_unavailable"' in answer.writes[-2]
    assert answer.writes[-1] == b"data: [DONE]\n\n"


async def test_a_start_that_nothing_came_of_is_tried_again(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_reader, "_FIRST_PAUSE_S", 0.0)
    edge = site(Break(), Break(), *GOOD)
    answer = await edge.chat(stream=True)
    assert deltas(answer.writes) == "Hello"
    assert len({request.run_id for request in edge.runs.started}) == 1


async def test_status_frames_come_by_themselves_and_usage_frames_when_asked_for(site: Make) -> None:
    script = (STARTED, STATUS, *GOOD[1:])
    plain = await site(*script).chat(stream=True)
    asked = await site(*script).chat(stream=True, stream_options={"include_usage": True})
    named = await site(*script).chat(stream=True, headers={"X-Fastchat-Events": "named"})
    off = await site(*script).chat(stream=True, headers={"x-fastchat-events": "off"})
    silent = await site(*script).chat(stream=True, stream_options={"include_status": False})
    count = [
        (a.body.count(b"event: status"), a.body.count(b"event: usage")) for a in (plain, asked, named, off, silent)
    ]
    assert count == [(1, 0), (1, 1), (1, 1), (0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("body", "header", "key", "events"),
    [
        ({}, None, {}, b"data: {"),
        ({}, None, {"preferences": {"events": "envelope"}}, b"event: agent"),
        ({}, "named", {"preferences": {"events": "envelope"}}, b"data: {"),
        ({"event_envelope": "canonical"}, "off", {"preferences": {"events": "off"}}, b"event: agent"),
        ({"event_envelope": "legacy"}, "envelope", {}, b"data: {"),
    ],
)
async def test_body_over_header_over_key(
    site: Make, body: dict[str, Any], header: str | None, key: dict[str, Any], events: bytes
) -> None:
    headers = {"X-Fastchat-Events": header} if header else None
    answer = await site(*GOOD, settings=key).chat(stream=True, stream_options=body, headers=headers)
    assert answer.body.startswith(events)
    assert answer.writes[-1] == b"data: [DONE]\n\n"


async def test_an_unknown_mode_in_the_header_is_refused(site: Make) -> None:
    answer = await site().chat(stream=True, headers={"X-Fastchat-Events": "loud"})
    assert (answer.status, answer.json["error"]["param"]) == (400, "X-Fastchat-Events")


@pytest.mark.req("FR-020")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("before", [(STARTED,), (STARTED, text("Hel"))], ids=["silent", "streaming"])
async def test_a_plain_run_is_cancelled_when_its_client_leaves(
    site: Make, stream: bool, before: tuple[Any, ...]
) -> None:
    reached, never, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()
    edge = site(*before, reached.set, never)
    request = asyncio.ensure_future(edge.chat(stream=stream, asgi={"leave": leave}))
    async with asyncio.timeout(5):
        await reached.wait()
        leave.set()
        await edge.runs.calls[0].cancelled.wait()
        await request
    assert edge.limits.open == 0


@pytest.mark.req("FR-017")
@pytest.mark.parametrize("stream", [True, False])
async def test_the_answer_is_in_the_thread_before_the_stream_ends(site: Make, threads: Threads, stream: bool) -> None:
    thread = await threads.create(PRINCIPAL, "", "")
    edge = site(*GOOD)
    seen: list[bytes] = []
    answer = await edge.chat(stream=stream, thread_id=thread.id, asgi={"on_write": seen.append})
    assert answer.headers["x-fastchat-thread-id"] == thread.id
    assert await messages(threads, thread.id) == ["q", "Hello"]
    (request,) = edge.runs.started
    assert (request.durable, request.thread_id) == (True, thread.id)
    assert request.started.response_message_id
    assert request.call.messages[0].id == request.parent_message_id
    if stream:
        assert orjson.loads(answer.body.split(b"event: usage\ndata: ")[1].split(b"\n")[0])["thread_id"] == thread.id


async def test_a_thread_is_made_only_when_the_settings_say_so(site: Make, threads: Threads) -> None:
    assert "x-fastchat-thread-id" not in (await site(*GOOD).chat()).headers
    made = await site(*GOOD, settings={"preferences": {"auto_thread": True}}).chat()
    assert await messages(threads, made.headers["x-fastchat-thread-id"]) == ["q", "Hello"]


@pytest.mark.parametrize("thread_id", ["01890000-0000-7000-8000-000000000009", "conv_1"])
async def test_an_unknown_thread_is_a_404(site: Make, thread_id: str) -> None:
    edge = site()
    answer = await edge.chat(thread_id=thread_id)
    assert (answer.status, answer.json["error"]["code"]) == (404, "thread_not_found")
    assert edge.runs.started == []


@pytest.mark.parametrize("script", [(STARTED, [usage(), failed()]), (Break(grpc.StatusCode.FAILED_PRECONDITION),)])
async def test_a_request_that_fails_leaves_the_thread_as_it_was(site: Make, threads: Threads, script: Any) -> None:
    thread = await threads.create(PRINCIPAL, "", "")
    for stream in (True, False):
        answer = await site(*script).chat(stream=stream, thread_id=thread.id)
        assert answer.status >= 400
    assert await messages(threads, thread.id) == []
    assert (await threads.get(PRINCIPAL, thread.id)).active_run_id == ""


@pytest.mark.req("FR-018")
async def test_a_durable_stream_goes_on_at_another_replica(
    site: Make, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_reader, "_FIRST_PAUSE_S", 0.0)
    thread = await threads.create(PRINCIPAL, "", "")
    edge = site(STARTED, text("Hel"), Break(), Break(), *GOOD[2:])
    answer = await edge.chat(stream=True, thread_id=thread.id)
    assert deltas(answer.writes) == "Hello"
    assert [request.after_sequence for request in edge.runs.attached] == [2, 2]


async def test_a_durable_run_goes_on_when_its_client_leaves_and_history_gets_the_answer(
    site: Make, threads: Threads
) -> None:
    thread = await threads.create(PRINCIPAL, "", "")
    rest, leave = asyncio.Event(), asyncio.Event()
    edge = site(STARTED, text("Hel"), rest, *GOOD[2:])
    wrote = asyncio.Event()
    asking = edge.chat(stream=True, thread_id=thread.id, asgi={"leave": leave, "on_write": lambda _: wrote.set()})
    request = asyncio.ensure_future(asking)
    async with asyncio.timeout(5):
        await wrote.wait()
        leave.set()
        await request
    assert edge.runs.cancels == []
    assert await messages(threads, thread.id) == ["q"]
    rest.set()
    history = History(edge.deps.clients, threads)
    for _ in range(2):
        await history.write("t1", edge.runs.started[0].run_id)
    assert await messages(threads, thread.id) == ["q", "Hello"]
    assert (await threads.get(PRINCIPAL, thread.id)).active_run_id == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_a_durable_run_that_the_orchestrator_refuses_is_refused(
    site: Make, threads: Threads, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(run_reader, "PLAIN_PATIENCE_S", 0.0)
    thread = await threads.create(PRINCIPAL, "", "")
    refusal = PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "not now", retry_after_s=2.0, dependency="bus")
    answer = await site(Break(told=refusal), Break(told=refusal), *GOOD).chat(stream=stream, thread_id=thread.id)
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert answer.json["error"]["message"] == "not now"
    assert await messages(threads, thread.id) == []


@pytest.mark.parametrize("durable", [True, False])
async def test_a_stream_that_outlives_its_edge_is_told_so_and_ends(site: Make, threads: Threads, durable: bool) -> None:
    fields = {"thread_id": (await threads.create(PRINCIPAL, "", "")).id} if durable else {}
    edge = site(STARTED, text("Hel"), asyncio.Event())
    wrote = asyncio.Event()
    request = asyncio.ensure_future(edge.chat(stream=True, asgi={"on_write": lambda _: wrote.set()}, **fields))
    async with asyncio.timeout(5):
        await wrote.wait()
        await edge.deps.answers.drain(0.01)
        answer = await request
    assert b'"code":"draining"' in answer.writes[-2]
    assert answer.writes[-1] == b"data: [DONE]\n\n"
    assert edge.runs.calls[0].cancelled.is_set()
    assert edge.runs.cancels == []


@pytest.mark.parametrize("script", [(STARTED,), (STARTED, text("Hel"))], ids=["silent", "begun"])
async def test_an_answer_that_outlives_its_edge_is_a_503(site: Make, script: tuple[Any, ...]) -> None:
    reached = asyncio.Event()
    edge = site(*script, reached.set, asyncio.Event())
    request = asyncio.ensure_future(edge.chat(stream=False))
    async with asyncio.timeout(5):
        await reached.wait()
        await edge.deps.answers.drain(0.01)
        answer = await request
    assert (answer.status, answer.json["error"]["code"]) == (503, "draining")


async def test_a_drain_waits_for_answers_that_end(site: Make) -> None:
    rest, reached = asyncio.Event(), asyncio.Event()
    edge = site(STARTED, text("Hel"), reached.set, rest, *GOOD[2:])
    request = asyncio.ensure_future(edge.chat(stream=True))
    async with asyncio.timeout(5):
        await reached.wait()
        drained = asyncio.ensure_future(edge.deps.answers.drain(60))
        rest.set()
        assert deltas((await request).writes) == "Hello"
        await drained


async def test_silence_is_bridged_by_pings(site: Make) -> None:
    more = asyncio.Event()
    edge = site(STARTED, more, *GOOD[1:])
    edge.deps.config.keepalive_s = 0.01
    seen: list[bytes] = []

    def on_write(body: bytes) -> None:
        seen.append(body)
        if seen.count(b": ping\n\n") == 2:
            more.set()

    async with asyncio.timeout(5):
        answer = await edge.chat(stream=True, asgi={"on_write": on_write})
    assert deltas([write for write in answer.writes if not write.startswith(b":")]) == "Hello"
    assert answer.writes[-1] == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("fields", "settings", "policy", "status"),
    [
        ({"model": None}, {}, Policy(), 400),
        ({}, {}, Policy("chat.create"), 403),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            {"limits": {"tool_calling": False}},
            Policy(),
            403,
        ),
    ],
)
async def test_what_is_not_allowed_never_starts(
    site: Make, fields: dict[str, Any], settings: dict[str, Any], policy: Policy, status: int
) -> None:
    edge = site(settings=settings, policy=policy)
    answer = await edge.chat(**fields)
    assert answer.status == status
    assert edge.runs.started == []


async def test_settings_give_the_model_and_cap_the_answer(site: Make) -> None:
    settings = {"preferences": {"default_model": "offline"}, "limits": {"max_output_tokens": 10}}
    for asked, given in ((None, 10), (5, 5), (50, 10)):
        edge = site(*GOOD, settings=settings)
        await edge.chat(model=None, max_tokens=asked)
        call = edge.runs.started[0].call
        assert (call.model_alias, call.max_tokens) == ("offline", given)
