"""The same behaviour over every door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from integration.models.deployments import Doors
from integration.models.port import REASONING, TEXT, TOOL_ARGUMENTS, ChatRequest, Delta, Door, End, Failure, Target
from kit.errors import Reason
from tests.support.upstream import KEY, Behaviour, Upstream
from tests.support.upstream_answers import text_for

pytestmark = [
    pytest.mark.req("PR-001"),
    # LiteLLM's own use of pydantic, once a stream
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "forecast", "parameters": SCHEMA}}
SHAPE = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


@dataclass
class Way:
    """A door and a target behind it."""

    door: Door
    target: Target

    async def read(self, request: ChatRequest) -> tuple[list[Delta], End]:
        deltas, end = [], None
        async for batch in self.door.stream(self.target, request):
            deltas.extend(batch.deltas)
            end = batch.end or end
        assert end is not None
        return deltas, end


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    made = Doors()
    yield made
    await made.close()


def to_mock(door: Door, upstream: Upstream) -> Way:
    return Way(door, Target("openai", "gpt-4o", upstream.url, KEY, {}))


@pytest.fixture(params=["compatible", "ordinary"])
def way(request: pytest.FixtureRequest, doors: Doors, upstream: Upstream) -> Way:
    """A door that goes over HTTP."""
    return to_mock(getattr(doors, request.param), upstream)


@pytest.fixture(params=["compatible", "ordinary", "offline", "offline through LiteLLM"])
def any_way(request: pytest.FixtureRequest, doors: Doors, upstream: Upstream) -> Way:
    """Every door."""
    if request.param in ("compatible", "ordinary"):
        return to_mock(getattr(doors, request.param), upstream)
    door = doors.offline if request.param == "offline" else doors.ordinary
    return Way(door, Target("offline", "offline", None, None, {}))


def joined(deltas: list[Delta], kind: Any = TEXT, choice: int = 0) -> str:
    return "".join(delta.text for delta in deltas if delta.kind == kind and delta.choice == choice)


def ask(messages: list[dict[str, Any]] | None = None, **params: Any) -> ChatRequest:
    return ChatRequest(messages or [dict(message) for message in HELLO], params)


async def test_streamed_and_whole_answers_are_the_same(any_way: Way) -> None:
    deltas, end = await any_way.read(ask())
    answer = await any_way.door.call(any_way.target, ask())
    assert joined(deltas) == answer.choices[0].text != ""
    assert end.finish == answer.end.finish == {0: "stop"}
    assert end.usage == answer.end.usage
    assert end.usage is not None
    assert end.usage.completion > 0


async def test_a_tool_is_called(any_way: Way) -> None:
    params = {"tools": [TOOL], "tool_choice": "required"}
    deltas, end = await any_way.read(ask(**params))
    answer = await any_way.door.call(any_way.target, ask(**params))
    call_id, name, arguments = answer.choices[0].tool_calls[0]
    first = next(delta for delta in deltas if delta.kind == TOOL_ARGUMENTS)
    assert (first.tool_call_id, first.tool_name, name) == (call_id, "forecast", "forecast")
    assert joined(deltas, TOOL_ARGUMENTS) == arguments
    assert end.finish == {0: "tool_calls"}


async def test_a_schema_shapes_the_answer(any_way: Way) -> None:
    deltas, _ = await any_way.read(ask(response_format=SHAPE))
    assert '"city":' in joined(deltas).replace(" ", "")


async def test_a_limit_ends_the_answer_with_length(any_way: Way) -> None:
    deltas, end = await any_way.read(ask(max_tokens=3))
    assert len(joined(deltas).split()) == 3
    assert end.finish == {0: "length"}


async def test_an_answer_goes_on_from_an_assistant_message(any_way: Way) -> None:
    whole = joined((await any_way.read(ask()))[0])
    prefix = " ".join(whole.split(" ")[:3])
    deltas, _ = await any_way.read(ask([*HELLO, {"role": "assistant", "content": prefix}]))
    assert prefix + joined(deltas) == whole


async def test_vectors_come_in_order_of_input(any_way: Way) -> None:
    one = await any_way.door.embed(any_way.target, ["alpha"], {})
    both = await any_way.door.embed(any_way.target, ["beta", "alpha"], {})
    assert list(both.values[1]) == pytest.approx(list(one.values[0]))
    assert both.usage is not None
    assert both.usage.prompt == 2


async def test_several_choices(way: Way) -> None:
    deltas, end = await way.read(ask(n=3))
    assert [joined(deltas, choice=i) for i in range(3)] == [text_for(HELLO, 8, i) for i in range(3)]
    assert end.finish == {0: "stop", 1: "stop", 2: "stop"}


async def test_log_probabilities(way: Way) -> None:
    params = {"logprobs": True, "top_logprobs": 1}
    deltas, _ = await way.read(ask(**params))
    entries = [entry for delta in deltas for entry in delta.logprobs or ()]
    assert "".join(entry["token"] for entry in entries) == joined(deltas)
    answer = await way.door.call(way.target, ask(**params))
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs["content"]) == len(entries)


async def test_reasoning_is_told_apart(way: Way, upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Behaviour(reasoning="let me think"))
    deltas, end = await way.read(ask())
    assert joined(deltas, REASONING) == "let me think"
    assert end.usage is not None
    assert end.usage.reasoning == 3
    assert (await way.door.call(way.target, ask())).choices[0].reasoning == "let me think"


async def test_pictures_reach_the_provider(way: Way, upstream: Upstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    await way.read(ask([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]))
    assert upstream.calls[0].body["messages"][0]["content"][1] == picture


async def test_line_separators_of_unicode_survive(way: Way, upstream: Upstream) -> None:
    text = "one\u2028two \u2029three\x85 four \U0001f600"
    upstream.behave("gpt-4o", Behaviour(text=text))
    assert joined((await way.read(ask()))[0]) == text


async def test_a_hundred_equal_chunks_are_an_answer(way: Way, upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Behaviour(text=" la" * 150))
    assert joined((await way.read(ask()))[0]) == " la" * 150


ERRORS = [
    (400, {"code": "invalid_value"}, Reason.UPSTREAM_INVALID_REQUEST, False),
    (400, {"code": "context_length_exceeded", "message": "This model's maximum context length is 10 tokens."},
     Reason.CONTEXT_LENGTH_EXCEEDED, False),
    (401, {}, Reason.UPSTREAM_AUTHENTICATION, False),
    (403, {}, Reason.UPSTREAM_AUTHENTICATION, False),
    (404, {}, Reason.UPSTREAM_INVALID_REQUEST, False),
    (408, {}, Reason.UPSTREAM_TIMEOUT, True),
    (409, {}, Reason.UPSTREAM_ERROR, True),
    (429, {}, Reason.UPSTREAM_RATE_LIMITED, True),
    (500, {}, Reason.UPSTREAM_ERROR, True),
    (503, {}, Reason.UPSTREAM_ERROR, True),
    (529, {}, Reason.UPSTREAM_ERROR, True),
]  # fmt: skip


@pytest.mark.parametrize(("status", "error", "reason", "retryable"), ERRORS)
@pytest.mark.parametrize("streamed", [True, False])
async def test_errors_are_classified(
    way: Way, upstream: Upstream, status: int, error: dict[str, str], reason: Reason, retryable: bool, streamed: bool
) -> None:
    upstream.behave("gpt-4o", Behaviour(status=status, error=error, retry_after="7"))
    with pytest.raises(Failure) as failed:
        await (way.read(ask()) if streamed else way.door.call(way.target, ask()))
    assert failed.value.error.reason is reason
    assert failed.value.retryable is retryable
    assert failed.value.error.metadata["provider"] == "openai"


async def test_retry_after_is_heard(way: Way, upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Behaviour(status=429, retry_after="7"))
    with pytest.raises(Failure) as failed:
        await way.read(ask())
    assert failed.value.retry_after_s == 7


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_no_credentials_and_addresses_in_messages(way: Way, upstream: Upstream, status: int) -> None:
    told = f"Bad key {KEY} or sk-abcdefgh12345678 at {upstream.url}/x, Bearer abc.def"
    upstream.behave("gpt-4o", Behaviour(status=status, error={"message": told}))
    with pytest.raises(Failure) as failed:
        await way.read(ask())
    text = repr(failed.value.error)
    assert not any(secret in text for secret in (KEY, "abcdefgh", "127.0.0.1", "abc.def"))
    assert KEY not in repr(way.target)


@pytest.mark.parametrize("how", ["reset", "eof"])
@pytest.mark.parametrize("after", [0, 3, 8])
async def test_an_early_end_is_a_cut(way: Way, upstream: Upstream, how: str, after: int) -> None:
    upstream.behave("gpt-4o", Behaviour(cut_after=after, cut=how))
    with pytest.raises(Failure) as failed:
        await way.read(ask())
    assert failed.value.outcome == "cut"
    assert failed.value.retryable


async def test_an_error_in_the_middle_of_the_stream(way: Way, upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Behaviour(error_after=2))
    with pytest.raises(Failure) as failed:
        await way.read(ask())
    assert failed.value.retryable


async def test_nobody_listens(way: Way) -> None:
    way.target = Target("openai", "gpt-4o", "http://127.0.0.1:9/v1", KEY, {})
    with pytest.raises(Failure) as failed:
        await way.read(ask())
    assert failed.value.error.reason is Reason.UPSTREAM_ERROR
    assert failed.value.retryable


@pytest.mark.parametrize("name", ["reasoning_effort", "verbosity"])
async def test_what_a_model_cannot_do_is_refused_by_name(way: Way, name: str, upstream: Upstream) -> None:
    with pytest.raises(Failure) as failed:
        await way.read(ask(**{name: "low"}))
    assert failed.value.error.reason is Reason.UNSUPPORTED_FEATURE
    assert failed.value.error.metadata["field"] == name
    assert upstream.calls == []


@pytest.mark.req("FR-010")
async def test_leaving_a_stream_closes_the_request_within_200_ms(way: Way, upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Behaviour(hang_after=2))
    async with aclosing(way.door.stream(way.target, ask())) as stream:
        await anext(stream)
        left = time.monotonic()
    await upstream.until(lambda: upstream.calls[0].disconnected_at is not None)
    assert (upstream.calls[0].disconnected_at or 0) - left < 0.2


async def test_cancelling_a_call_closes_the_request_within_200_ms(way: Way, upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Behaviour(hang=True))
    task = asyncio.create_task(way.door.call(way.target, ask()))  # type: ignore[arg-type]
    await upstream.until(lambda: bool(upstream.calls))
    left = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.until(lambda: upstream.calls[0].disconnected_at is not None)
    assert (upstream.calls[0].disconnected_at or 0) - left < 0.2


async def test_the_fast_door_uses_connections_again(doors: Doors, upstream: Upstream) -> None:
    way = to_mock(doors.compatible, upstream)
    for _ in range(3):
        await way.read(ask())
        await way.door.call(way.target, ask())
    assert len(upstream.peers) == 1


async def test_unknown_fields_go_into_the_body_of_openais_wire(way: Way, upstream: Upstream) -> None:
    await way.read(ChatRequest(list(HELLO), {}, {"top_k": 5}))
    assert upstream.calls[0].body["top_k"] == 5
