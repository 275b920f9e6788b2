"""The reader of OpenAI's event stream."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.models.doors.frames import ErrorFrame, FrameReader, MalformedStream
from integration.models.port import TEXT, TOOL_ARGUMENTS, Delta

pytestmark = pytest.mark.req("FR-010")


def frame(delta: dict[str, object], finish: str | None = None, index: int = 0, **choice: object) -> bytes:
    body = {"model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish, **choice}]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


WHOLE = b"".join(
    [
        frame({"role": "assistant", "content": ""}),
        frame({"content": "one "}),
        b": ping\n\n",
        frame({"content": "two\u2028three\u2029\U0001f600"}),
        frame({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]}),
        frame({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}),
        frame({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
        frame({}, "tool_calls"),
        b"data: [DONE]\n\n",
    ]
)


def test_what_arrives_together_is_merged_and_tells_how_many_chunks_it_was() -> None:
    deltas = FrameReader().feed(WHOLE)
    assert deltas == [
        Delta(TEXT, "one two\u2028three\u2029\U0001f600", merged=2),
        Delta(TOOL_ARGUMENTS, '{"a":1}', 0, 0, "c1", "f", merged=3),
    ]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_the_cuts_between_reads_change_nothing(cuts: list[int]) -> None:
    reader, texts, arguments = FrameReader(), [], []
    edges = [0, *sorted(cuts), len(WHOLE)]
    for start, end in itertools.pairwise(edges):
        for delta in reader.feed(WHOLE[start:end]):
            (texts if delta.kind == TEXT else arguments).append(delta.text)
    assert "".join(texts) == "one two\u2028three\u2029\U0001f600"
    assert "".join(arguments) == '{"a":1}'
    assert reader.done
    assert reader.end().finish == {0: "tool_calls"}


def test_a_stream_with_carriage_returns_reads_the_same() -> None:
    assert FrameReader().feed(WHOLE.replace(b"\n", b"\r\n")) == FrameReader().feed(WHOLE)


def test_a_stream_without_an_end_has_not_ended() -> None:
    reader = FrameReader()
    reader.feed(frame({"content": "one"}))
    assert not reader.ended


def test_every_choice_must_have_its_finish_reason() -> None:
    reader = FrameReader()
    reader.feed(frame({"content": "a"}, "stop") + frame({"content": "b"}, index=1))
    assert not reader.ended
    reader.feed(frame({}, "length", index=1))
    assert reader.ended
    assert reader.end().finish == {0: "stop", 1: "length"}


def test_log_probabilities_are_gathered() -> None:
    parts = [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}]
    frames = [frame({"content": part["token"]}, logprobs={"content": [part]}) for part in parts]
    assert FrameReader().feed(b"".join(frames)) == [Delta(TEXT, "ab", logprobs=parts, merged=2)]


def test_an_error_frame_is_an_error() -> None:
    with pytest.raises(ErrorFrame):
        FrameReader().feed(b'data: {"error": {"message": "no"}}\n\n')


def test_a_chunk_that_is_not_json_is_refused() -> None:
    with pytest.raises(MalformedStream):
        FrameReader().feed(b"data: {nonsense\n\n")
