"""An upstream that breaks after every token position, with a fallback behind it (PR-005, 15.4)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.stack import Stack
from tests.support.upstream_answers import text_for

WORDS = 8
ASK = [{"role": "user", "content": "Tell me of bridges."}]
ALIAS = "breaks-then-mock"


def stream(stack: Stack, **body: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Data lines of a stream, and the parsed frames before [DONE]."""
    request = {"model": ALIAS, "messages": ASK, "stream": True, "stream_options": {"include_usage": True}, **body}
    headers = {"authorization": f"Bearer {stack.key}"}
    with httpx.stream("POST", f"{stack.url}/v1/chat/completions", json=request, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return lines, [json.loads(line) for line in lines[:-1]]


def text_of(frames: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame.get("choices", []))


@pytest.mark.req("PR-005")
@pytest.mark.parametrize("ending", ["reset", "eof"])
@pytest.mark.parametrize("prefill", ["continue", "repeat"])
@pytest.mark.parametrize("position", range(WORDS + 1))
def test_plain_text_completes_wherever_the_upstream_is_cut(
    stack: Stack, position: int, prefill: str, ending: str
) -> None:
    stack.behave(ALIAS, words=WORDS, cut_after=position, cut=ending)
    stack.behave("mock", words=WORDS, prefill=prefill)
    _, frames = stream(stack)
    reasons = [c["finish_reason"] for f in frames for c in f.get("choices", []) if c.get("finish_reason")]
    status = [frame for frame in frames if frame.get("type") == "error"]
    usage = next(frame["usage"] for frame in frames if frame.get("usage"))
    assert text_of(frames) == text_for(ASK, WORDS)
    assert reasons == ["stop"]
    assert status, "a frame says that a fallback took over"
    single = stack.request("POST", "/v1/chat/completions", {"model": "mock", "messages": ASK})[1]["usage"]
    if position:
        assert usage["prompt_tokens"] > single["prompt_tokens"], "both legs' prompts are counted"
    assert usage["completion_tokens"] >= single["completion_tokens"]


@pytest.mark.req("PR-005")
@pytest.mark.parametrize("shape", ["json_schema", "n"])
def test_what_cannot_be_continued_ends_properly(stack: Stack, shape: str) -> None:
    extra: dict[str, Any] = {"n": 2}
    if shape == "json_schema":
        schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
        extra = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    stack.behave(ALIAS, text='{"a": "one two three four five"}', cut_after=3)
    stack.behave("mock", text='{"b": "something else altogether, and longer"}')
    lines, frames = stream(stack, **extra)
    assert frames[-1]["error"]["code"] == "upstream_interrupted"
    assert lines[-1] == "[DONE]"


@pytest.mark.req("PR-005")
def test_a_leg_that_repeats_what_was_sent_is_accepted(stack: Stack) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    answer = '{"a": "one two three four five"}'
    stack.behave(ALIAS, text=answer, cut_after=3)
    stack.behave("mock", text=answer)
    _, frames = stream(stack, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert text_of(frames) == answer


@pytest.mark.req("PR-005")
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_refusals_that_may_pass_go_to_the_fallback(stack: Stack, status: int) -> None:
    stack.behave(ALIAS, status=status)
    stack.behave("mock", words=WORDS)
    _, frames = stream(stack)
    assert text_of(frames) == text_for(ASK, WORDS)


@pytest.mark.req("PR-005")
def test_a_request_that_is_wrong_is_not_tried_elsewhere(stack: Stack) -> None:
    stack.behave(ALIAS, status=400, error={"message": "temperature is out of range", "param": "temperature"})
    status, body = stack.request("POST", "/v1/chat/completions", {"model": ALIAS, "messages": ASK})
    assert status == 400
    assert "temperature is out of range" in body["error"]["message"]
