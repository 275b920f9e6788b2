"""How a new leg goes on from a lost one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.models.port import REASONING, TEXT, TOOL_ARGUMENTS, Delta
from integration.models.splice import Continuation, Delivered, Extension, Fresh, splice_for
from kit.errors import PlatformError, Reason

pytestmark = pytest.mark.req("PR-005")

FORMAT = {"response_format": {"type": "json_schema", "json_schema": {}}}


def texts(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def delivered(*deltas: Delta) -> Delivered:
    found = Delivered()
    found.add(deltas)
    return found


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges) if text[start:end]]


@given(st.text(min_size=1), st.text(), st.lists(st.integers(0, 200)))
def test_a_repetition_of_what_was_delivered_is_swallowed(said: str, more: str, places: list[int]) -> None:
    splice = Continuation(said)
    news = [delta for part in cut(said + more, places) for delta in splice.accept([Delta(TEXT, part)])]
    assert texts(news + splice.finish()) == more


@given(st.text("ab ", min_size=1), st.text("xyz", min_size=1), st.lists(st.integers(0, 200)))
def test_a_continuation_passes_as_it_is(said: str, more: str, places: list[int]) -> None:
    splice = Continuation(said)
    news = [delta for part in cut(more, places) for delta in splice.accept([Delta(TEXT, part)])]
    assert texts(news + splice.finish()) == more


def test_what_only_began_like_the_delivered_text_is_kept() -> None:
    splice = Continuation("one two three")
    assert splice.accept([Delta(TEXT, "one t")]) == []
    assert texts(splice.accept([Delta(TEXT, "ime")])) == "one time"


def test_white_space_at_the_end_is_not_sent_and_not_repeated() -> None:
    splice = Continuation("one ")
    assert splice.prefill == "one"
    assert texts(splice.accept([Delta(TEXT, " two")])) == "two"


def test_reasoning_of_the_new_leg_is_dropped() -> None:
    assert Continuation("one").accept([Delta(REASONING, "hm")]) == []


@pytest.mark.parametrize("params", [FORMAT, {"logprobs": True}, {"n": 2}])
def test_shaped_answers_must_be_extended(params: dict[str, object]) -> None:
    assert isinstance(splice_for(delivered(Delta(TEXT, "a")), params), Extension)


def test_tool_calls_must_be_extended() -> None:
    assert isinstance(splice_for(delivered(Delta(TOOL_ARGUMENTS, "", tool_name="f")), {}), Extension)


def test_plain_text_is_continued() -> None:
    assert isinstance(splice_for(delivered(Delta(REASONING, "h"), Delta(TEXT, "a")), {"n": 1}), Continuation)


def test_nothing_delivered_is_a_fresh_start() -> None:
    assert isinstance(splice_for(Delivered(), FORMAT), Fresh)


@given(st.text(min_size=1), st.text(), st.lists(st.integers(0, 200)))
def test_an_extension_gives_what_lies_past(said: str, more: str, places: list[int]) -> None:
    splice = Extension(delivered(Delta(TEXT, said)))
    news = [delta for part in cut(said + more, places) for delta in splice.accept([Delta(TEXT, part)])]
    assert texts(news + splice.finish()) == more


def test_a_tool_call_keeps_the_id_that_readers_saw() -> None:
    splice = Extension(delivered(Delta(TOOL_ARGUMENTS, '{"a"', 0, 0, "c1", "f")))
    assert splice.accept([Delta(TOOL_ARGUMENTS, '{"a": 1}', 0, 0, "c2", "f")]) == [Delta(TOOL_ARGUMENTS, ": 1}")]


@pytest.mark.parametrize(
    "delta", [Delta(TEXT, "other"), Delta(TEXT, "on"), Delta(TOOL_ARGUMENTS, "{}", tool_call_id="c", tool_name="g")]
)
def test_a_contradiction_or_a_shorter_answer_is_refused(delta: Delta) -> None:
    splice = Extension(delivered(Delta(TEXT, "one"), Delta(TOOL_ARGUMENTS, "", 0, 0, "c", "f")))
    with pytest.raises(PlatformError) as refused:
        _ = splice.accept([delta]) + splice.finish()
    assert refused.value.reason is Reason.UPSTREAM_INTERRUPTED


def test_log_probabilities_are_cut_between_tokens() -> None:
    splice = Extension(delivered(Delta(TEXT, "ab", logprobs=[])))
    entries = [{"token": "ab", "logprob": -1}, {"token": "c", "logprob": -2}]
    assert splice.accept([Delta(TEXT, "abc", logprobs=entries)]) == [Delta(TEXT, "c", logprobs=entries[1:])]
