"""Fallback chains: before the first token and in the middle of an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastchat.common.v1.event_pb2 import TokenKind
from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from fastchat.integration.v1.model_service_pb2 import ModelOptions
from kit.errors import PlatformError, Reason
from tests.support.upstream import Behaviour
from tests.support.upstream_answers import text_for
from tests.unit.integration.test_gateway import tool
from tests.unit.integration.world import Heard, World, chat, read

pytestmark = [pytest.mark.req("PR-005")]

WORDS = 8
ANSWER = text_for([{"role": "user", "content": "Hello"}], WORDS)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "river": {"type": "string"}}}
SHAPE = json.dumps({"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}})
TOOL_ARGUMENTS = TokenKind.TOKEN_KIND_TOOL_ARGUMENTS


@pytest.fixture
def chain(gateway: World) -> World:
    """ "gpt" falls back on "spare"; nothing is tried twice."""
    gateway.model("gpt", fallbacks=["spare"], retries=0)
    gateway.model("spare", retries=0)
    return gateway


@pytest.mark.parametrize("how", ["reset", "eof"])
@pytest.mark.parametrize("prefill", ["continue", "repeat"])
@pytest.mark.parametrize("position", range(WORDS + 1))
async def test_plain_text_completes_wherever_the_provider_cuts(
    chain: World, position: int, prefill: str, how: str
) -> None:
    chain.upstream.behave("gpt", Behaviour(cut_after=position, cut=how, delay_ms=1))
    chain.upstream.behave("spare", Behaviour(prefill=prefill))
    heard = await read(chain, chat("gpt"))
    assert heard.text() == ANSWER
    assert [status.message for status in heard.statuses] == [
        f"gpt did not answer in time or failed; spare {'goes on' if position else 'takes over'}."
    ]
    end = heard.end
    assert (end.alias_resolved, end.finish_reason) == ("spare", "stop")
    assert [(leg.model_alias, leg.outcome) for leg in end.legs] == [("gpt", "cut"), ("spare", "stop")]
    assert end.legs[0].usage.estimated
    assert end.legs[0].usage.prompt_tokens > 0
    assert (end.legs[0].usage.completion_tokens > 0) == (position > 0)
    assert end.usage.completion_tokens == sum(leg.usage.completion_tokens for leg in end.legs)
    assert end.usage.estimated


async def test_both_providers_break_off_and_a_third_ends_the_answer(chain: World) -> None:
    chain.model("gpt", fallbacks=["spare", "last"], retries=0)
    chain.model("last")
    chain.upstream.behave("gpt", Behaviour(cut_after=2, delay_ms=1))
    chain.upstream.behave("spare", Behaviour(cut_after=3, delay_ms=1))
    heard = await read(chain, chat("gpt"))
    assert heard.text() == ANSWER
    assert [leg.model_alias for leg in heard.end.legs] == ["gpt", "spare", "last"]


async def test_the_only_provider_is_asked_again_in_mid_answer(gateway: World) -> None:
    gateway.model("gpt", retries=1)
    gateway.upstream.behave("gpt", Behaviour(cut_after=3, delay_ms=1), times=1)
    heard = await read(gateway, chat("gpt"))
    assert heard.text() == ANSWER
    assert heard.statuses[0].message == "gpt broke off; it is asked again."


async def test_an_answer_that_nobody_can_end_is_interrupted(chain: World) -> None:
    chain.upstream.behave("*", Behaviour(cut_after=2, delay_ms=1))
    heard = Heard()
    with pytest.raises(PlatformError) as failed:
        await read(chain, chat("gpt"), heard)
    assert failed.value.reason is Reason.UPSTREAM_INTERRUPTED
    assert ANSWER.startswith(heard.text())


@pytest.mark.parametrize("after", range(1, 6))
async def test_a_tool_call_is_extended_and_keeps_its_first_id(chain: World, after: int) -> None:
    chain.upstream.behave("gpt", Behaviour(cut_after=after, call_tools=1, delay_ms=1))
    chain.upstream.behave("spare", Behaviour(call_tools=1))
    heard = await read(chain, chat("gpt", tools=[tool(SCHEMA)]))
    assert json.loads(heard.text(TOOL_ARGUMENTS)) == {"city": "willow", "river": "willow"}
    assert [delta.tool_name for delta in heard.deltas if delta.tool_name] == ["forecast"]
    assert heard.end.finish_reason == "tool_calls"


STRICT: list[dict[str, Any]] = [
    {"response_format_json": SHAPE},
    {"options": ModelOptions(n=2)},
    {"options": ModelOptions(logprobs=True)},
]


@pytest.mark.parametrize("asked", STRICT)
async def test_a_shaped_answer_is_extended_by_a_provider_that_repeats_it(chain: World, asked: dict[str, Any]) -> None:
    undisturbed = await read(chain, chat("spare", **asked))
    chain.upstream.behave("gpt", Behaviour(cut_after=2, delay_ms=1))
    heard = await read(chain, chat("gpt", **asked))
    assert heard.text() == undisturbed.text()
    assert heard.text(choice=1) == undisturbed.text(choice=1)
    told = ["".join(d.logprobs_json for d in h.deltas).replace("][", ",") for h in (heard, undisturbed)]
    assert told[0] == told[1]


@pytest.mark.parametrize("asked", STRICT)
async def test_a_shaped_answer_is_interrupted_by_a_provider_that_says_otherwise(
    chain: World, asked: dict[str, Any]
) -> None:
    chain.upstream.behave("gpt", Behaviour(cut_after=2, delay_ms=1))
    chain.upstream.behave("spare", Behaviour(text="something else"))
    with pytest.raises(PlatformError) as failed:
        await read(chain, chat("gpt", **asked))
    assert failed.value.reason is Reason.UPSTREAM_INTERRUPTED


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
@pytest.mark.parametrize("streamed", [True, False])
async def test_errors_that_may_pass_fall_back(chain: World, status: int, streamed: bool) -> None:
    chain.upstream.behave("gpt", Behaviour(status=status))
    result = (await read(chain, chat("gpt"))).end if streamed else await chain.gateway.call(chat("gpt"))
    assert result.alias_resolved == "spare"
    assert result.legs[0].usage.total_tokens == 0


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_errors_of_the_request_do_not_fall_back(chain: World, status: int) -> None:
    chain.upstream.behave("gpt", Behaviour(status=status))
    with pytest.raises(PlatformError):
        await read(chain, chat("gpt"))
    assert chain.upstream.of("spare") == []


async def test_an_unreachable_provider_falls_back(chain: World) -> None:
    chain.model("gpt", litellm={"api_base": "http://127.0.0.1:9/v1"}, fallbacks=["spare"], retries=0)
    heard = await read(chain, chat("gpt"))
    assert heard.text() == ANSWER
    assert heard.end.legs[0].outcome == "connect_error"


@pytest.mark.parametrize(
    ("behaviour", "limit", "outcome"),
    [
        (Behaviour(hang=True), "first_token_s", "timeout_first_token"),
        (Behaviour(hang_after=0), "first_token_s", "timeout_first_token"),
        (Behaviour(hang_after=2), "idle_s", "timeout_idle"),
        (Behaviour(delay_ms=20), "total_s", "timeout_answer"),
    ],
)
async def test_a_slow_provider_falls_back(chain: World, behaviour: Behaviour, limit: str, outcome: str) -> None:
    chain.model("gpt", fallbacks=["spare"], retries=0, timeouts={limit: 0.1})
    chain.upstream.behave("gpt", behaviour)
    heard = await read(chain, chat("gpt"))
    assert heard.text() == ANSWER
    assert heard.end.legs[0].outcome == outcome
    await chain.upstream.until(lambda: chain.upstream.of("gpt")[0].disconnected_at is not None)


async def test_a_failed_request_is_tried_again_first(gateway: World) -> None:
    gateway.model("gpt", retries=2, fallbacks=["offline"])
    gateway.upstream.behave("gpt", Behaviour(status=503), times=2)
    heard = await read(gateway, chat("gpt"))
    assert heard.text() == ANSWER
    assert heard.statuses == []
    assert len(gateway.upstream.of("gpt")) == 3


async def test_a_provider_that_asks_for_patience_is_left_alone(chain: World) -> None:
    chain.upstream.behave("gpt", Behaviour(status=429, retry_after="60"))
    await read(chain, chat("gpt"))
    await read(chain, chat("gpt"))
    assert len(chain.upstream.of("gpt")) == 1


@pytest.mark.req("PR-033")
async def test_a_provider_that_keeps_failing_is_not_called(chain: World) -> None:
    chain.model("gpt", retries=0, cooldown={"failures": 2, "seconds": 60})
    chain.upstream.behave("gpt", Behaviour(status=500))
    reasons = []
    for _ in range(3):
        with pytest.raises(PlatformError) as failed:
            await read(chain, chat("gpt"))
        reasons.append(failed.value.reason)
    assert reasons == [Reason.UPSTREAM_ERROR, Reason.UPSTREAM_ERROR, Reason.CIRCUIT_OPEN]
    assert len(chain.upstream.of("gpt")) == 2


async def test_a_fallback_that_cannot_do_what_is_asked_is_passed_over(chain: World) -> None:
    chain.model("gpt", retries=0, fallbacks=["offline", "spare"])
    chain.upstream.behave("gpt", Behaviour(status=500))
    heard = await read(chain, chat("gpt", options=ModelOptions(logprobs=True)))
    assert heard.end.alias_resolved == "spare"


async def test_a_run_that_was_taken_over_goes_on_from_its_text(gateway: World) -> None:
    delivered = " ".join(ANSWER.split(" ")[:3]) + " "
    earlier = LegUsage(model_alias="gpt", usage=Usage(completion_tokens=3, total_tokens=3, cost_known=True))
    for prefill in ("continue", "repeat"):
        gateway.upstream.behave("gpt", Behaviour(prefill=prefill))
        heard = await read(gateway, chat("gpt", continue_from=delivered, earlier_legs=[earlier]))
        assert delivered + heard.text() == ANSWER
        assert len(heard.end.legs) == 2
        assert heard.end.usage.completion_tokens == 3 + heard.end.legs[1].usage.completion_tokens
