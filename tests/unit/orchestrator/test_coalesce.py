"""Merging deltas: fewer messages, the same text in the same order."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastchat.common.v1.event_pb2 import StatusPayload, TokenDelta, TokenPayload
from orchestrator.coalesce import Buffer, SinkClosed, merge, merge_deltas
from orchestrator.fold import Delivered
from tests.unit.orchestrator.samples import REASONING, TEXT, TOOL, delta, token

deltas = st.builds(
    delta,
    text=st.text(max_size=4),
    kind=st.sampled_from([TEXT, REASONING, TOOL]),
    choice=st.integers(0, 2),
    tool_index=st.integers(0, 1),
)


@given(st.lists(deltas, max_size=30))
def test_merging_keeps_every_output_and_counts_every_chunk(chunks: list[TokenDelta]) -> None:
    before, after = Delivered(), Delivered()
    before.add(chunks)
    merged = merge_deltas(chunks)
    after.add(merged)
    assert {key: output.text for key, output in after.outputs.items()} == {
        key: output.text for key, output in before.outputs.items()
    }
    assert after.chunks == before.chunks
    assert len(merged) <= len(chunks)


def test_neighbours_of_one_output_become_one_delta() -> None:
    (merged,) = merge_deltas([delta("a"), delta("b"), delta("c")])
    assert (merged.text, merged.merged) == ("abc", 3)


def test_the_delta_that_opens_a_tool_call_is_not_swallowed_by_the_call_before() -> None:
    first = delta("{}", TOOL, tool_call_id="c1", tool_name="f")
    second = delta("", TOOL, tool_call_id="c2", tool_name="f")
    more = delta("{}", TOOL)
    merged = merge_deltas([first, second, more])
    assert [(one.tool_call_id, one.text) for one in merged] == [("c1", "{}"), ("c2", "{}")]


def test_log_probabilities_are_joined_entry_by_entry() -> None:
    entries = ['[{"token": "a", "logprob": -1}]', " [] ", '[{"token":"b","logprob":-2}]']
    (merged,) = merge_deltas(
        [delta(text, logprobs_json=logprobs) for text, logprobs in zip("a b", entries, strict=True)]
    )
    assert [entry["token"] for entry in orjson.loads(merged.logprobs_json)] == ["a", "b"]


def test_text_with_log_probabilities_is_not_merged_with_text_without() -> None:
    assert len(merge_deltas([delta("a", logprobs_json="[]"), delta("b")])) == 2


def test_other_payloads_keep_their_place_between_tokens() -> None:
    status = StatusPayload(message="x")
    merged = merge([token("a"), token("b"), status, token("c")])
    assert [type(payload) for payload in merged] == [TokenPayload, StatusPayload, TokenPayload]
    assert merged[0].deltas[0].text == "ab"  # type: ignore[union-attr]


async def test_the_first_payload_leaves_at_once_and_later_ones_together() -> None:
    buffer = Buffer()
    await buffer.put(token("a"))
    assert [payload.deltas[0].text for payload in await buffer.take()] == ["a"]  # type: ignore[union-attr]
    for text in "bcd":
        await buffer.put(token(text))
    assert [payload.deltas[0].text for payload in await buffer.take()] == ["bcd"]  # type: ignore[union-attr]


async def test_a_full_buffer_holds_the_producer_back_until_something_is_taken() -> None:
    buffer = Buffer(max_bytes=10)
    await buffer.put(token("x" * 20))
    held = asyncio.ensure_future(buffer.put(token("y")))
    await asyncio.sleep(0)
    assert not held.done()
    await buffer.take()
    await held


async def test_a_batch_is_bounded() -> None:
    buffer = Buffer(batch_bytes=30)
    for _ in range(3):
        await buffer.put(token("x" * 20))
    buffer.close()
    assert [len(await buffer.take()) for _ in range(4)] == [1, 1, 1, 0]


async def test_a_taker_that_cannot_go_on_is_told_to_whoever_puts() -> None:
    buffer = Buffer(max_bytes=10)
    await buffer.put(token("x" * 20))
    held = asyncio.ensure_future(buffer.put(token("a")))
    await asyncio.sleep(0)
    buffer.abandon()
    with pytest.raises(SinkClosed):
        await held
