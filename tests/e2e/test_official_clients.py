"""The official SDKs, unchanged, over a real socket, with status frames on (spec 15.1)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from httpx_sse import aconnect_sse

from tests.support.stack import Stack

CLIENTS = Path(__file__).parents[1] / "clients"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,  # the SDK's stream helper takes no other
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
async def sdk(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as client:
        yield client


def says(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.mark.req("FR-007", "FR-009", "FR-010", "FR-026")
async def test_python_streams_with_usage(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="mock", messages=says("Tell me of streams."), stream=True, stream_options={"include_usage": True}
    )
    text, finish, usage = "", None, None
    async for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage
    assert finish == "stop"
    assert len(text.split()) == 8
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@pytest.mark.req("FR-026")
async def test_python_answers_whole(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="mock", messages=says("Tell me of wholes."))
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "mock"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert len((answer.choices[0].message.content or "").split()) == 8


@pytest.mark.req("FR-026")
@pytest.mark.parametrize("model", ["mock", "offline"])
async def test_python_stream_helper_collects_tool_calls(sdk: openai.AsyncOpenAI, model: str) -> None:
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    async with sdk.chat.completions.stream(
        model=model, messages=says("What is the weather in Paris?"), tools=[WEATHER], tool_choice=choice
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == "get_weather"
    assert "city" in json.loads(calls[0].function.arguments)
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.req("FR-026")
@pytest.mark.parametrize("model", ["mock", "offline"])
async def test_python_gets_json_by_schema(sdk: openai.AsyncOpenAI, model: str) -> None:
    shape: Any = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    answer = await sdk.chat.completions.create(model=model, messages=says("A person."), response_format=shape)
    person = json.loads(answer.choices[0].message.content or "")
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)


@pytest.mark.req("FR-026")
async def test_python_sends_a_picture(sdk: openai.AsyncOpenAI) -> None:
    content: Any = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = await sdk.chat.completions.create(model="mock", messages=[{"role": "user", "content": content}])
    assert "[image_url " in (answer.choices[0].message.content or "")


@pytest.mark.req("FR-026")
async def test_python_gets_several_choices(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.chat.completions.create(model="mock", messages=says("Twice."), n=2)
    assert [choice.index for choice in whole.choices] == [0, 1]
    texts = ["", ""]
    stream = await sdk.chat.completions.create(model="mock", messages=says("Twice."), n=2, stream=True)
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


@pytest.mark.req("FR-008", "FR-009", "FR-011")
async def test_httpx_sse_reads_status_and_usage_frames(stack: Stack) -> None:
    body = {
        "model": "breaks-then-offline",
        "messages": says("Tell me of frames. [[words:120 delay_ms:2]]"),
        "stream": True,
        "stream_options": {"include_usage": True, "include_status": True},
    }
    seen: dict[str, list[dict[str, Any]]] = {}
    headers = {"authorization": f"Bearer {stack.key}"}
    async with (
        httpx.AsyncClient(timeout=30) as http,
        aconnect_sse(http, "POST", f"{stack.url}/v1/chat/completions", json=body, headers=headers) as source,
    ):
        assert source.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert source.response.headers["cache-control"] == "no-cache"
        assert source.response.headers["x-accel-buffering"] == "no"
        async for event in source.aiter_sse():
            if event.data == "[DONE]":
                seen["done"] = []
                continue
            assert "done" not in seen, "nothing follows [DONE]"
            seen.setdefault(event.event, []).append(json.loads(event.data))
    assert "done" in seen
    status = seen["status"][0]
    assert status["type"] == "error"
    assert status["message"]
    assert status["choices"] == [{"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}]
    finals = [frame for frame in seen["usage"] if frame["is_final"]]
    assert len(finals) == 1
    assert {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "context_window_limit",
        "context_utilization_pct",
    } <= (finals[0].keys())
    assert len(seen["usage"]) > 1, "one about every 50 completion tokens"


async def run_node(script: str, stack: Stack, model: str) -> dict[str, Any]:
    """Run a client script of tests/clients; its last line is what it saw."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "--preserve-symlinks",
        script,
        cwd=CLIENTS,
        env={
            **os.environ,
            "BASE_URL": stack.url,
            "GRPC_TARGET": stack.grpc_target,
            "API_KEY": stack.key,
            "MODEL": model,
            "EMBEDDING_MODEL": "offline",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()[-2000:]
    seen: dict[str, Any] = json.loads(out.splitlines()[-1])
    return seen


@pytest.mark.req("FR-007", "FR-026", "FR-028")
async def test_node_sdk(stack: Stack) -> None:
    seen = await run_node("openai_node.mjs", stack, "mock")
    assert len(seen["streamed"]["text"].split()) == 8
    assert seen["streamed"]["finish"] == "stop"
    assert seen["streamed"]["usage"]["total_tokens"] > 0
    assert seen["whole"]["object"] == "chat.completion"
    assert seen["tools"]["name"] == "get_weather"
    assert seen["tools"]["finish"] == "tool_calls"
    assert isinstance(seen["schema"]["age"], int)
    assert seen["image"]["text"].startswith("[image_url ")
    assert seen["several"]["indexes"] == [0, 1]
    assert seen["failures"]["unknownModel"] == {
        "status": 404,
        "code": "model_not_found",
        "type": "invalid_request_error",
    }
    assert seen["failures"]["badKey"]["status"] == 401
    assert {"mock", "offline"} <= set(seen["models"])
    assert len(seen["vectors"]) == 2
    assert min(seen["vectors"]) > 0


@pytest.mark.req("FR-007", "FR-026")
@pytest.mark.parametrize("model", ["mock", "offline"])
async def test_vercel_ai_sdk(stack: Stack, model: str) -> None:
    seen = await run_node("vercel.mjs", stack, model)
    for provider, saw in seen.items():
        assert saw["streamed"]["errors"] == [], provider
        assert saw["streamed"]["text"], provider
        assert saw["streamed"]["finish"] == "stop", provider
        assert saw["streamed"]["usage"]["outputTokens"] > 0, provider
        assert "city" in saw["tools"]["called"][0], provider
        assert isinstance(saw["schema"]["age"], int), provider


@pytest.mark.req("FR-007")
async def test_typescript_partner_streams_over_grpc(stack: Stack) -> None:
    seen = await run_node("grpc_stream.mjs", stack, "mock")
    assert seen["sequences"] == list(range(1, len(seen["sequences"]) + 1))
    assert seen["kinds"][0] == "started"
    assert seen["kinds"][-1] == "complete"
    assert len(seen["text"].split()) == 8
    assert "mock" in seen["models"]


@pytest.mark.req("FR-007")
async def test_betterproto_partner_streams_over_grpc(stack: Stack) -> None:
    from grpclib.client import Channel

    from gen.betterproto.fastchat.common.v1 import ChatMessage, ContentPart, Role
    from gen.betterproto.fastchat.gateway.v1 import Chat, ChatServiceStub, StreamChatRequest

    host, port = stack.grpc_target.rsplit(":", 1)
    chat = Chat(model="mock", messages=[ChatMessage(role=Role.USER, content=[ContentPart(text="Tell me of streams.")])])
    text, sequences = "", []
    channel = Channel(host, int(port))
    try:
        stub = ChatServiceStub(channel)
        metadata = {"authorization": f"Bearer {stack.key}"}
        async for answer in stub.stream_chat(StreamChatRequest(chat=chat), metadata=metadata):
            assert answer.event is not None
            sequences.append(answer.event.sequence)
            if answer.event.token is not None:
                text += "".join(delta.text for delta in answer.event.token.deltas)
    finally:
        channel.close()
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(text.split()) == 8
