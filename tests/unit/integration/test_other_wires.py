"""Other wires, through the ordinary door: Anthropic's Messages API and OpenAI's Responses API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from fastchat.common.v1.event_pb2 import TokenKind
from fastchat.integration.v1.model_service_pb2 import ModelMode, ModelOptions
from kit.errors import PlatformError, Reason
from tests.unit.integration.world import World, chat, read

pytestmark = [
    pytest.mark.req("PR-001"),
    # LiteLLM's own use of pydantic, once a stream
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

USAGE = {"input_tokens": 5, "output_tokens": 3}


@dataclass
class Provider:
    """Answers a fixed list of events."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await response.write_eof()
        return response


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    app = web.Application()
    app.router.add_post("/v1/messages", found.answer)
    app.router.add_post("/v1/responses", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


def text_block(index: int, kind: str, *parts: str) -> list[dict[str, Any]]:
    name = {"text": "text_delta", "thinking": "thinking_delta"}[kind]
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": kind, kind: ""}},
        *({"type": "content_block_delta", "index": index, "delta": {"type": name, kind: part}} for part in parts),
        {"type": "content_block_stop", "index": index},
    ]


def message(*blocks: list[dict[str, Any]], ended: bool = True) -> list[dict[str, Any]]:
    started = {"id": "m1", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": USAGE}
    events = [{"type": "message_start", "message": started}, *(event for block in blocks for event in block)]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}
    return [*events, stop, {"type": "message_stop"}] if ended else events


@pytest.fixture
def claude(gateway: World, provider: Provider) -> World:
    litellm = {"model": "anthropic/claude-sonnet-4-5", "api_base": provider.url, "api_key": "k"}
    gateway.model("claude", litellm=litellm, retries=0, fallbacks=["offline"])
    return gateway


async def test_anthropic_streams_text_and_reasoning(claude: World, provider: Provider) -> None:
    provider.events = message(
        text_block(0, "thinking", "let me", " think"), text_block(1, "text", "one", " two\u2028x")
    )
    heard = await read(claude, chat("claude", temperature=0.5))
    assert heard.text() == "one two\u2028x"
    assert heard.text(TokenKind.TOKEN_KIND_REASONING) == "let me think"
    assert (heard.end.provider, heard.end.finish_reason) == ("anthropic", "stop")
    assert (heard.end.usage.prompt_tokens, heard.end.usage.completion_tokens) == (5, 3)
    assert heard.end.usage.cost_micros == 5 * 3 + 3 * 15
    assert provider.bodies[0]["temperature"] == 0.5


async def test_anthropic_that_ends_too_early_is_continued_elsewhere(claude: World, provider: Provider) -> None:
    provider.events = message(text_block(0, "text", "This is"), ended=False)
    heard = await read(claude, chat("claude"))
    assert heard.text().startswith("This is Fast-Chat's offline model")
    assert [leg.outcome for leg in heard.end.legs] == ["cut", "stop"]


async def test_what_anthropic_cannot_do_is_refused_by_name(claude: World, provider: Provider) -> None:
    for options, name in ((ModelOptions(n=2), "n"), (ModelOptions(extra_json='{"top_secret": 1}'), "top_secret")):
        with pytest.raises(PlatformError) as failed:
            await read(claude, chat("claude", options=options))
        assert failed.value.reason is Reason.UNSUPPORTED_FEATURE
        assert failed.value.metadata["field"] == name
    assert provider.bodies == []


async def test_the_responses_api_streams_as_chat(gateway: World, provider: Provider) -> None:
    item = {"type": "message", "id": "i1", "role": "assistant", "status": "completed", "content": []}
    base = {"id": "r1", "object": "response", "created_at": 1, "model": "gpt-4o", "output": [], "tools": []}
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    provider.events = [
        {"type": "response.created", "response": {**base, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
        *(
            {
                "type": "response.output_text.delta",
                "item_id": "i1",
                "output_index": 0,
                "content_index": 0,
                "delta": x,
            }
            for x in ("one", " two")
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**base, "status": "completed", "output": [item], "usage": usage}},
    ]
    litellm = {"model": "openai/gpt-4o", "api_base": f"{provider.url}/v1", "api_key": "k"}
    gateway.model("responding", litellm=litellm, mode="responses")
    call = chat("responding")
    call.mode = ModelMode.MODEL_MODE_RESPONSES
    heard = await read(gateway, call)
    assert heard.text() == "one two"
    assert heard.end.finish_reason == "stop"
    assert heard.end.usage.total_tokens == 8
    assert "input" in provider.bodies[0]
