"""The main job, over both shapes: a chat, streamed and not, the models, and embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.stack import Stack

ASK = [{"role": "user", "content": "Tell me of smoke."}]


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {stack.key}"}
    with httpx.Client(base_url=f"{stack.url}/v1", headers=headers, timeout=30) as client:
        yield client


def streamed(client: httpx.Client, body: dict[str, Any]) -> list[str]:
    """The data lines of a stream."""
    with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        return [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]


@pytest.mark.req("FR-001", "FR-002", "FR-007", "FR-010", "FR-026", "PR-001")
@pytest.mark.parametrize("model", ["offline", "mock"])
def test_chat_streams_to_its_end(client: httpx.Client, model: str) -> None:
    lines = streamed(client, {"model": model, "messages": ASK})
    chunks = [json.loads(line) for line in lines[:-1]]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert lines[-1] == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert text
    assert reasons == ["stop"]


@pytest.mark.req("FR-002", "FR-026")
@pytest.mark.parametrize("model", ["offline", "mock"])
def test_chat_answers_at_once(client: httpx.Client, model: str) -> None:
    answer = client.post("/chat/completions", json={"model": model, "messages": ASK})
    body = answer.json()
    assert answer.status_code == 200, body
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]


@pytest.mark.req("FR-028", "PR-003")
def test_models_are_listed(client: httpx.Client) -> None:
    listed = client.get("/models").json()
    assert {"mock", "offline"} <= {model["id"] for model in listed["data"]}


@pytest.mark.req("PR-001")
@pytest.mark.parametrize("model", ["offline", "mock-embedding"])
def test_texts_are_embedded(client: httpx.Client, model: str) -> None:
    body = client.post("/embeddings", json={"model": model, "input": ["one", "two"]}).json()
    first, second = (row["embedding"] for row in body["data"])
    assert len(first) == len(second) > 0
    assert first != second


@pytest.mark.req("PR-005")
def test_an_answer_goes_on_when_its_upstream_breaks(stack: Stack, client: httpx.Client) -> None:
    stack.behave("breaks-then-mock", cut_after=3)
    lines = streamed(client, {"model": "breaks-then-mock", "messages": ASK})
    chunks = [json.loads(line) for line in lines[:-1]]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert (lines[-1], reasons) == ("[DONE]", ["stop"])


@pytest.mark.req("FR-030")
def test_readiness_tells_of_every_dependency(stack: Stack) -> None:
    answer = httpx.get(f"{stack.url}/health/ready")
    assert answer.status_code == 200
    assert httpx.get(f"{stack.url}/health/live").status_code == 200
