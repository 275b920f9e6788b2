"""The bytes of projections: a change of any of them is a change for clients, and needs a new PROJECTION_VERSION.

`UPDATE_GOLDEN=1 pytest tests/contract/test_projection_bytes.py` writes them anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from httpx_sse import connect_sse
from openai.types.chat import ChatCompletionChunk

from edge.projections import ChatProjection, EnvelopeProjection, Options, Projection, projection_for
from edge.projections.resumed import Resumed
from fastchat.common.v1 import event_pb2 as pb
from kit.errors import Reason
from tests.unit.edge_chat.runs import complete, delta, failed, numbered, started, text, usage

GOLDEN = Path(__file__).parent / "projections"
THREAD = "01890000-0000-7000-8000-00000000000a"

STATUS = pb.StatusPayload(
    kind=pb.STATUS_KIND_TOOL_START,
    message="Searching the web",
    tool="web_search",
    details_json='{"query":"naïve"}',
)
TOOL_CALL = [
    delta(pb.TOKEN_KIND_TOOL_ARGUMENTS, "", tool_call_id="call_1", tool_name="get_weather"),
    delta(pb.TOKEN_KIND_TOOL_ARGUMENTS, '{"city":'),
    delta(pb.TOKEN_KIND_TOOL_ARGUMENTS, '"Paris"}'),
    delta(pb.TOKEN_KIND_TOOL_ARGUMENTS, "{}", tool_index=1, tool_call_id="call_2", tool_name="now"),
]
LOGPROBS = '[{"token":"Hi","logprob":-0.1,"bytes":[72,105],"top_logprobs":[]}]'

PLAIN = [text("Hello"), text(' \u2028 "wörld"\n'), usage(), complete("stop")]
EVERYTHING = [
    pb.AgentPayload(kind=pb.AGENT_EVENT_KIND_NODE_START, name="chat"),
    pb.StatusPayload(kind=pb.STATUS_KIND_THINKING, message="Thinking"),
    STATUS,
    delta(pb.TOKEN_KIND_REASONING, "because"),
    text("Hello"),
    usage(9, 50, is_final=False),
    text(" there"),
    usage(9, 57),
    complete("stop"),
]

CASES: dict[str, tuple[Options, Sequence[Any]]] = {
    "plain": (Options(), PLAIN),
    "include_usage": (Options(include_usage=True, usage=True), EVERYTHING),
    "status": (Options(), EVERYTHING),
    "no_status": (Options(status=False), EVERYTHING),
    "off": (Options(events="off", include_usage=True), EVERYTHING),
    "two_choices": (
        Options(n=2),
        [text("a"), text("b", choice_index=1), text("c"), usage(), complete("stop", "length")],
    ),
    "tool_calls": (Options(), [*TOOL_CALL, usage(), complete("tool_calls")]),
    "legacy_function": (Options(legacy_functions=True), [*TOOL_CALL[:3], usage(), complete("tool_calls")]),
    "refusal": (Options(), [delta(pb.TOKEN_KIND_REFUSAL, "I can't."), usage(), complete("stop")]),
    "logprobs": (Options(), [text("Hi", logprobs_json=LOGPROBS), usage(), complete("stop")]),
    "failed": (Options(include_usage=True), [text("Hel"), usage(), failed(Reason.UPSTREAM_INTERRUPTED, "it broke")]),
    "cancelled": (Options(n=2), [text("Hel"), usage(), complete(outcome=pb.RUN_OUTCOME_CANCELLED)]),
    "envelope": (Options(events="envelope"), EVERYTHING),
    "envelope_tools": (Options(events="envelope"), [*TOOL_CALL, failed()]),
}


def run(options: Options, payloads: Sequence[Any]) -> list[pb.RunEvent]:
    return numbered([started(options.to_json()), *payloads], THREAD)


def frames(projection: Projection, events: Sequence[pb.RunEvent]) -> list[bytes]:
    return [frame for event in events for frame in projection.feed(event)]


@pytest.mark.req("FR-007")
@pytest.mark.req("FR-008")
@pytest.mark.req("FR-009")
@pytest.mark.req("FR-011")
@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_release(name: str) -> None:
    options, payloads = CASES[name]
    told = b"".join(frames(projection_for(options), run(options, payloads)))
    file = GOLDEN / f"{name}.sse"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_bytes(told)
    assert told == file.read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_frames_are_whole_events_that_end_properly(name: str) -> None:
    options, payloads = CASES[name]
    told = frames(projection_for(options), run(options, payloads))
    for frame in told:
        assert frame.endswith(b"\n\n")
        assert frame.count(b"\n\n") == 1
        assert b"\r" not in frame
        assert len([line for line in frame.split(b"\n") if line.startswith(b"data: ") and len(line) > 6]) == 1
    assert [frame for frame in told if frame.startswith(b"data: [DONE]")] == told[-1:]


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("envelope")])
def test_the_first_event_tells_a_chat_projection_everything(name: str) -> None:
    options, payloads = CASES[name]
    events = run(options, payloads)
    assert frames(ChatProjection(), events) == frames(ChatProjection(options), events)


@pytest.mark.parametrize("make", [ChatProjection, EnvelopeProjection])
def test_a_reader_goes_on_after_any_frame(make: type[ChatProjection] | type[EnvelopeProjection]) -> None:
    events = run(Options(include_usage=True, usage=True), EVERYTHING)
    whole = frames(make(), events)
    for after in range(len(whole)):
        assert frames(Resumed(make(), after), events) == whole[after:]


def test_a_cursor_past_the_end_is_told() -> None:
    told = frames(Resumed(EnvelopeProjection(), 99), run(Options(), PLAIN))
    assert b'"code":"cursor_ahead"' in told[0]
    assert told[1:] == [b"data: [DONE]\n\n"]


def served(name: str) -> httpx.MockTransport:
    content = (GOLDEN / f"{name}.sse").read_bytes()
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=content))


def sdk_chunks(name: str) -> list[ChatCompletionChunk]:
    with (
        httpx.Client(transport=served(name)) as http,
        openai.OpenAI(api_key="k", base_url="http://edge/v1", http_client=http) as client,
    ):
        return list(client.chat.completions.create(model="m", messages=[], stream=True))


@pytest.mark.req("FR-010")
@pytest.mark.parametrize("name", ["plain", "include_usage", "status", "tool_calls", "two_choices"])
def test_the_official_sdk_reads_every_frame_as_a_chunk(name: str) -> None:
    for chunk in sdk_chunks(name):
        ChatCompletionChunk.model_validate(chunk.model_dump())
        assert (chunk.id, chunk.object, chunk.model) == ("chatcmpl-1", "chat.completion.chunk", "m")


def test_the_official_sdk_reads_the_text_and_one_usage() -> None:
    chunks = sdk_chunks("include_usage")
    content = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert content == "Hello there"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [66]
    assert chunks[-1].choices == []


def test_the_official_sdk_raises_the_error_of_a_broken_stream() -> None:
    with pytest.raises(openai.APIError, match="it broke"):
        sdk_chunks("failed")


def test_the_accumulating_stream_helper_of_the_sdk_accepts_status_frames() -> None:
    with (
        httpx.Client(transport=served("include_usage")) as http,
        openai.OpenAI(api_key="k", base_url="http://edge/v1", http_client=http) as client,
        client.chat.completions.stream(model="m", messages=[]) as stream,
    ):
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello there"


@pytest.mark.req("FR-008")
def test_a_reader_of_named_events_finds_status_and_usage_fields() -> None:
    with (
        httpx.Client(transport=served("include_usage")) as http,
        connect_sse(http, "POST", "http://edge/v1/chat/completions") as source,
    ):
        events = [(event.event, event.data) for event in source.iter_sse()]
    status = [orjson.loads(data) for name, data in events if name == "status"]
    reports = [orjson.loads(data) for name, data in events if name == "usage"]
    assert [frame["type"] for frame in status] == ["thinking", "tool_start"]
    assert status[0]["thread_id"] == THREAD
    assert (status[1]["tool"], status[1]["details"]) == ("web_search", {"query": "naïve"})
    assert [report["is_final"] for report in reports] == [False, True]
    assert reports[1]["context_utilization_pct"] == 0.1
    assert reports[1]["context_window_limit"] == 128_000
    assert events[-1] == ("message", "[DONE]")


def test_an_envelope_has_the_fields_of_the_spec() -> None:
    events = [
        dict(line.split(": ", 1) for line in frame.decode().strip().split("\n"))
        for frame in frames(EnvelopeProjection(), run(Options(), EVERYTHING))[:-1]
    ]
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    for event in events:
        envelope = orjson.loads(event["data"])
        assert set(envelope) == {"event_id", "event_type", "timestamp", "trace_id", "thread_id", "payload"}
        assert envelope["event_type"] == event["event"]
        assert isinstance(envelope["payload"], dict)
