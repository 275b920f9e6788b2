"""A mock OpenAI-compatible provider: a real HTTP server on loopback that answers as it is told and records what it saw.

In a test:

    async with running() as upstream:
        upstream.behave("gpt-a", Behaviour(cut_after=3), times=1)    # the next call of model "gpt-a"
        ... call upstream.url ("http://127.0.0.1:<port>/v1") ...
        assert upstream.calls[0].disconnected_at is not None

As a process: `python -m tests.support.upstream --port 9100`, then `PUT /_behaviour/<model>` with a JSON object of
Behaviour's fields (and "times"), `GET /_calls` (the record) and `DELETE /_calls`. Answers are those of
tests.support.upstream_answers, so a test can tell what will come.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.upstream_answers import Json, embedding, tokens
from tests.support.upstream_chat import Chat

KEY = "sk-upstream-secret-0123456789"
"""The API key that the mock takes; any other is a 401."""


@dataclass(frozen=True)
class Behaviour:
    """How the mock answers. The default is a well-behaved provider that answers at once in eight words."""

    words: int = 8
    """Words of a text answer; each is a chunk of a stream."""
    text: str | None = None
    """The answer itself instead of words drawn by the prompt's hash."""
    delay_ms: float = 0
    """Pause before each chunk but the first."""
    first_delay_ms: float = 0
    """Pause before the answer begins."""
    batch: int = 1
    """Chunks per write."""
    cut_after: int | None = None
    """Close the socket after that many chunks with content; an answer that is not streamed is cut before its body."""
    cut: str = "reset"
    """How a cut ends: "reset" the connection, or "eof": the body ends properly, without finish reason and [DONE]."""
    status: int | None = None
    """Answer this HTTP status with an error body."""
    error: Json = field(default_factory=dict)
    """Fields of the error body: message, type, code, param."""
    retry_after: str | None = None
    """Retry-After header of an error."""
    error_after: int | None = None
    """Send an error frame after that many chunks with content, and end."""
    hang: bool = False
    """Never answer."""
    hang_after: int | None = None
    """Go silent after that many chunks with content (0: after the role chunk)."""
    reasoning: str = ""
    """Reasoning text told before the answer, as reasoning_content."""
    refusal: str = ""
    """Refusal instead of an answer."""
    call_tools: int | None = None
    """Tools to call. None: one if tool_choice asks for it; 0: never."""
    finish_reason: str | None = None
    """Finish reason instead of the natural one."""
    usage: str = "auto"
    """"auto": as the request asks; "never"."""
    prefill: str = "continue"
    """A trailing assistant message is continued ("continue"), answered from the start ("repeat") or text ("ignore")."""
    newline: str = "\n"
    """Line end of the stream."""
    fingerprint: str = "fp_mock"
    """system_fingerprint."""


@dataclass
class Call:
    """One request as the mock saw it. Times are time.monotonic() seconds."""

    path: str
    headers: dict[str, str]
    body: Json
    started_at: float
    ended_at: float | None = None
    disconnected_at: float | None = None
    """When the client was seen to leave before the end of the answer."""
    chunks: int = 0
    """Chunks with content that were sent."""

    @property
    def model(self) -> str:
        """Model asked for."""
        return str(self.body.get("model", ""))


class Upstream:
    """The mock: what it will do (`behave`) and what it saw (`calls`)."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.url = ""
        self.peers: set[tuple[str, int]] = set()
        """Addresses of the connections that requests came over."""
        self._lasting: dict[str, Behaviour] = {}
        self._next: defaultdict[str, list[Behaviour]] = defaultdict(list)
        self._seen = asyncio.Condition()

    def behave(self, model: str, behaviour: Behaviour, times: int | None = None) -> None:
        """Answer calls of a model ("*": of any) that way; only the next `times` of them, if given."""
        if times is None:
            self._lasting[model] = behaviour
        else:
            self._next[model].extend([behaviour] * times)

    def of(self, model: str) -> list[Call]:
        """Calls of a model, in order."""
        return [call for call in self.calls if call.model == model]

    async def until(self, condition: Any, timeout_s: float = 5.0) -> None:
        """Wait until `condition()` holds; it is asked again after everything that happens here."""
        async with self._seen:
            await asyncio.wait_for(self._seen.wait_for(condition), timeout_s)

    def app(self) -> web.Application:
        """The server's application."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/_calls", self._get_calls)
        app.router.add_delete("/_calls", self._delete_calls)
        app.router.add_put("/_behaviour/{model:.+}", self._put_behaviour)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, Chat.respond)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, _embed)

    async def _answer(self, request: web.Request, respond: Any) -> web.StreamResponse:
        call = Call(request.path, dict(request.headers), await request.json(), time.monotonic())
        self.calls.append(call)
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        await self._tell()
        try:
            behaviour = self._behaviour_for(call.model)
            refused = _refusal(request, behaviour)
            if refused is not None:
                return refused
            if behaviour.hang:
                await asyncio.Event().wait()
            await asyncio.sleep(behaviour.first_delay_ms / 1000)
            response: web.StreamResponse = await respond(request, call, behaviour)
            return response
        except (asyncio.CancelledError, ConnectionError):
            call.disconnected_at = time.monotonic()
            raise
        finally:
            call.ended_at = time.monotonic()
            # shielded: the handler of a client that left is cancelled, and its waiters must hear of that
            await asyncio.shield(self._tell())

    def _behaviour_for(self, model: str) -> Behaviour:
        for name in (model, "*"):
            if self._next[name]:
                return self._next[name].pop(0)
        return self._lasting.get(model) or self._lasting.get("*") or Behaviour()

    async def _tell(self) -> None:
        async with self._seen:
            self._seen.notify_all()

    async def _get_calls(self, _: web.Request) -> web.Response:
        return web.json_response([dataclasses.asdict(call) for call in self.calls])

    async def _delete_calls(self, _: web.Request) -> web.Response:
        self.calls.clear()
        return web.Response(status=204)

    async def _put_behaviour(self, request: web.Request) -> web.Response:
        told = await request.json()
        times = told.pop("times", None)
        self.behave(request.match_info["model"], Behaviour(**told), times)
        return web.Response(status=204)


def _refusal(request: web.Request, behaviour: Behaviour) -> web.Response | None:
    if request.headers.get("Authorization") != f"Bearer {KEY}":
        return error_response(401, {"message": "Incorrect API key provided.", "code": "invalid_api_key"}, None)
    if behaviour.status is not None:
        return error_response(behaviour.status, behaviour.error, behaviour.retry_after)
    return None


def error_response(status: int, fields: Json, retry_after: str | None) -> web.Response:
    """An error in OpenAI's shape."""
    body = {"message": f"The mock answers {status}.", "type": "mock_error", "param": None, "code": None, **fields}
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return web.json_response({"error": body}, status=status, headers=headers)


async def _embed(_: web.Request, call: Call, behaviour: Behaviour) -> web.Response:
    told = call.body["input"]
    texts = [told] if isinstance(told, str) else told
    size = call.body.get("dimensions") or 8
    encoding = call.body.get("encoding_format", "float")
    data = [
        {"object": "embedding", "index": i, "embedding": embedding(text, size, encoding)}
        for i, text in enumerate(texts)
    ]
    used = sum(tokens(text) for text in texts)
    answer: Json = {"object": "list", "model": call.model, "data": data}
    if behaviour.usage != "never":
        answer["usage"] = {"prompt_tokens": used, "total_tokens": used}
    return web.json_response(answer)


@asynccontextmanager
async def running(port: int = 0) -> AsyncIterator[Upstream]:
    """The mock on loopback, on a free port unless told."""
    upstream = Upstream()
    runner = web.AppRunner(upstream.app(), handler_cancellation=True, shutdown_timeout=0.2, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    bound = runner.addresses[0][1]
    upstream.url = f"http://127.0.0.1:{bound}/v1"
    try:
        yield upstream
    finally:
        await runner.cleanup()


async def _serve(port: int) -> None:
    async with running(port) as upstream:
        print(f"upstream ready at {upstream.url} key {KEY}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A mock OpenAI-compatible provider.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one")
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))
