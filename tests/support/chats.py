"""Chats of the running platform, as chaos needs them: paced, on a thread or not, and what a thread holds afterwards."""

from __future__ import annotations

from typing import Any

from tests.support.reading import Reading
from tests.support.stack import Stack


def asking(words: int, delay_ms: int, about: str = "harbours") -> str:
    """A prompt that the offline model answers in so many words, so fast."""
    return f"Tell me of {about}. [[words:{words} delay_ms:{delay_ms}]]"


def body(prompt: str, thread_id: str = "", model: str = "offline", **more: Any) -> dict[str, Any]:
    """A streamed chat's request; with a thread, a durable run."""
    told = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}], **more}
    return {**told, "thread_id": thread_id} if thread_id else told


def new_thread(stack: Stack, url: str = "") -> str:
    """An empty thread's id."""
    status, thread = stack.request("POST", "/v1/threads", {}, url=url)
    assert status == 201, (status, thread)
    return str(thread["id"])


def read(stack: Stack, prompt: str, thread_id: str = "", url: str = "", **more: Any) -> Reading:
    """Start a streamed chat."""
    return Reading("POST", f"{url or stack.url}/v1/chat/completions", stack.key, body(prompt, thread_id, **more))


def read_again(stack: Stack, run_id: str, url: str = "") -> Reading:
    """Read a run as its first reader does, from its first frame."""
    headers = {"X-Fastchat-Events": "named"}
    return Reading("GET", f"{url or stack.url}/v1/runs/{run_id}/events", stack.key, headers=headers)


def answers(stack: Stack, thread_id: str, url: str = "") -> list[str]:
    """The assistant's messages in a thread; nothing while it cannot be read."""
    status, messages = stack.request("GET", f"/v1/threads/{thread_id}/messages", url=url)
    return [message["content"] for message in messages if message["role"] == "assistant"] if status == 200 else []


def run_of(stack: Stack, run_id: str, url: str = "") -> dict[str, Any]:
    """The run, as the API tells of it."""
    status, run = stack.request("GET", f"/v1/runs/{run_id}", url=url)
    assert status == 200, (status, run)
    return dict(run)


def undisturbed(stack: Stack, prompt: str, url: str = "") -> str:
    """The text of an answer that nothing happens to."""
    with read(stack, prompt, url=url) as reading:
        reading.wait_over()
    assert reading.ended, reading.story()
    assert reading.finish_reasons == ["stop"]
    return reading.text
