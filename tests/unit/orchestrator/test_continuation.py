"""A new leg goes on where a lost one stopped, or is refused: nothing seen is retracted, repeated or reordered."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastchat.common.v1.event_pb2 import TokenDelta, TokenPayload
from fastchat.common.v1.message_pb2 import ToolDefinition
from fastchat.common.v1.usage_pb2 import LegUsage
from fastchat.integration.v1.model_service_pb2 import ModelOptions
from kit.errors import PlatformError, Reason
from orchestrator.continuation import ContinuedText, ExtendingLeg, FreshLeg, Leg, call_for, next_leg
from orchestrator.fold import Delivered
from tests.unit.orchestrator.samples import REASONING, TOOL, call, delta

pytestmark = [pytest.mark.req("PR-005"), pytest.mark.req("PR-024")]


def seen(*deltas: TokenDelta) -> Delivered:
    delivered = Delivered()
    delivered.add(deltas)
    return delivered


def news(leg: Leg, *deltas: TokenDelta) -> list[TokenDelta]:
    payload = leg.accept(TokenPayload(deltas=deltas))
    return list(payload.deltas) if payload is not None else []


def refused(leg: Leg, *deltas: TokenDelta) -> None:
    def whole() -> None:
        news(leg, *deltas)
        leg.finish()

    with pytest.raises(PlatformError) as caught:
        whole()
    assert caught.value.reason is Reason.UPSTREAM_INTERRUPTED


def test_a_leg_after_nothing_starts_afresh() -> None:
    leg = next_leg(call(), Delivered())
    assert isinstance(leg, FreshLeg)
    assert call_for(original := call(), leg, []) is original


def test_plain_text_is_continued_from_what_was_delivered() -> None:
    leg = next_leg(call(), seen(delta("Hello "), delta("wor")))
    asked = call_for(call(), leg, [LegUsage(outcome="interrupted")])
    assert asked.continue_from == "Hello wor"
    assert [one.outcome for one in asked.earlier_legs] == ["interrupted"]
    assert [one.text for one in news(leg, delta("ld"))] == ["ld"]


def test_reasoning_is_not_told_again_after_the_answer_began() -> None:
    leg = next_leg(call(), seen(delta("hm", REASONING), delta("Hel")))
    assert isinstance(leg, ContinuedText)
    assert [one.text for one in news(leg, delta("hm", REASONING), delta("lo"))] == ["lo"]


@pytest.mark.parametrize(
    "more",
    [
        {"options": ModelOptions(n=2)},
        {"options": ModelOptions(logprobs=True)},
        {"response_format_json": '{"type": "json_schema", "json_schema": {}}'},
        {"response_format_json": '{"type": "json_object"}'},
    ],
)
def test_structured_answers_must_extend_what_was_delivered(more: dict[str, object]) -> None:
    assert isinstance(next_leg(call(**more), seen(delta("{"))), ExtendingLeg)


def test_text_before_any_tool_call_is_continued_even_where_tools_are_offered() -> None:
    offered = call(tools=[ToolDefinition(name="f")])
    assert isinstance(next_leg(offered, seen(delta("Let me"))), ContinuedText)
    assert isinstance(next_leg(offered, seen(delta("{", TOOL, tool_call_id="c", tool_name="f"))), ExtendingLeg)


def test_plain_text_format_is_no_structure() -> None:
    assert isinstance(next_leg(call(response_format_json='{"type": "text"}'), seen(delta("a"))), ContinuedText)


@given(st.text(min_size=1, max_size=12), st.integers(0, 12), st.lists(st.integers(1, 4), max_size=12))
def test_an_identical_leg_ends_in_the_identical_answer_however_it_is_cut(
    whole: str, cut: int, sizes: list[int]
) -> None:
    delivered = seen(delta(whole[:cut])) if whole[:cut] else Delivered()
    leg = ExtendingLeg(delivered)
    pieces, at = [], 0
    for size in [*sizes, len(whole)]:
        pieces.append(whole[at : at + size])
        at += size
    told = "".join(one.text for piece in pieces if piece for one in news(leg, delta(piece)))
    leg.finish()
    assert whole[:cut] + told == whole


def test_a_leg_that_differs_is_refused() -> None:
    refused(ExtendingLeg(seen(delta('{"a": 1'))), delta('{"b"'))


def test_a_leg_that_stops_short_is_refused() -> None:
    refused(ExtendingLeg(seen(delta('{"a": 1'))), delta('{"a"'))


def test_a_leg_that_calls_another_function_is_refused() -> None:
    delivered = seen(delta("{", TOOL, tool_call_id="c1", tool_name="f"))
    refused(ExtendingLeg(delivered), delta("{", TOOL, tool_call_id="c2", tool_name="g"))


def test_a_tool_call_keeps_the_id_that_was_told_first() -> None:
    leg = ExtendingLeg(seen(delta('{"x"', TOOL, tool_call_id="c1", tool_name="f")))
    (more,) = news(leg, delta('{"x": 1}', TOOL, tool_call_id="c2", tool_name="f"))
    assert (more.text, more.tool_call_id, more.tool_name) == (": 1}", "", "")


def test_a_second_tool_call_is_news_with_its_id() -> None:
    leg = ExtendingLeg(seen(delta("{}", TOOL, tool_call_id="c1", tool_name="f")))
    told = news(
        leg,
        delta("{}", TOOL, tool_call_id="x1", tool_name="f"),
        delta("{}", TOOL, tool_index=1, tool_call_id="x2", tool_name="g"),
    )
    assert [(one.tool_call_id, one.text) for one in told] == [("x2", "{}")]


def test_log_probabilities_are_cut_between_tokens() -> None:
    entries = [{"token": "He", "logprob": -1}, {"token": "llo", "logprob": -2}]
    leg = ExtendingLeg(seen(delta("He", logprobs_json=orjson.dumps(entries[:1]).decode())))
    (more,) = news(leg, delta("Hello", logprobs_json=orjson.dumps(entries).decode()))
    assert (more.text, orjson.loads(more.logprobs_json)) == ("llo", entries[1:])


def test_log_probabilities_that_do_not_line_up_are_refused() -> None:
    leg = ExtendingLeg(seen(delta("H", logprobs_json='[{"token":"H"}]')))
    refused(leg, delta("Hello", logprobs_json='[{"token":"He"},{"token":"llo"}]'))


def test_every_choice_is_checked_on_its_own() -> None:
    leg = ExtendingLeg(seen(delta("a"), delta("b", choice=1)))
    told = news(leg, delta("ab"), delta("b", choice=1), delta("c", choice=2))
    assert [(one.choice_index, one.text) for one in told] == [(0, "b"), (2, "c")]
