"""The mock upstream's chat completions: the answer's parts, and how they go over the wire, whole or streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from tests.support.upstream_answers import (
    Json,
    json_for,
    pieces,
    prompt_text,
    split_prefill,
    text_for,
    tokens,
    tool_arguments,
)

if TYPE_CHECKING:
    from tests.support.upstream import Behaviour, Call

_CREATED = 1_700_000_000


class Chat:
    """One chat call and its answer."""

    def __init__(self, call: Call, behaviour: Behaviour) -> None:
        self.call = call
        self.body = call.body
        self.behaviour = behaviour
        self.prompt, self.prefill = self._split()
        self.choices = [self._message(i) for i in range(self.body.get("n") or 1)]

    @classmethod
    async def respond(cls, request: web.Request, call: Call, behaviour: Behaviour) -> web.StreamResponse:
        """Answer a request, streamed if it asks for that."""
        chat = cls(call, behaviour)
        if call.body.get("stream"):
            return await chat.stream(request)
        if behaviour.cut_after is not None:
            return await _abort(request, web.StreamResponse())
        return web.json_response(chat.whole())

    def _split(self) -> tuple[list[Json], str]:
        if self.behaviour.prefill == "ignore":
            return self.body["messages"], ""
        return split_prefill(self.body["messages"])

    def _message(self, choice: int) -> Json:
        """A choice's message, `finish_reason` beside it."""
        behaviour = self.behaviour
        message: Json = {"role": "assistant", "content": None}
        finish = "stop"
        if behaviour.reasoning:
            message["reasoning_content"] = behaviour.reasoning
        calls = self._tool_calls(choice)
        if calls:
            message["tool_calls"], finish = calls, "tool_calls"
        elif behaviour.refusal:
            message["refusal"] = behaviour.refusal
        else:
            text, finish = self._limited(self._text(choice))
            message["content"] = text
        message["finish_reason"] = behaviour.finish_reason or finish
        return message

    def _text(self, choice: int) -> str:
        if self.behaviour.text is not None:
            text = self.behaviour.text
        else:
            text = self._structured() or text_for(self.prompt, self.behaviour.words, choice)
        goes_on = self.behaviour.prefill == "continue" and text.startswith(self.prefill)
        return text[len(self.prefill) :] if goes_on else text

    def _structured(self) -> str:
        shape = self.body.get("response_format") or {"type": "text"}
        if shape["type"] == "json_schema":
            return json.dumps(json_for(shape["json_schema"]["schema"]))
        return '{"answer": "willow"}' if shape["type"] == "json_object" else ""

    def _limited(self, text: str) -> tuple[str, str]:
        limit = self.body.get("max_completion_tokens") or self.body.get("max_tokens")
        cut = pieces(text)
        return ("".join(cut[:limit]), "length") if limit is not None and len(cut) > limit else (text, "stop")

    def _tool_calls(self, choice: int) -> list[Json]:
        tools = self.body.get("tools") or []
        wanted = self.behaviour.call_tools
        asked = self.body.get("tool_choice")
        if isinstance(asked, dict):
            tools = [tool for tool in tools if tool["function"]["name"] == asked["function"]["name"]]
        if wanted is None:
            wanted = 1 if tools and asked not in (None, "auto", "none") else 0
        return [
            {
                "id": f"call_{choice}_{i}",
                "type": "function",
                "function": {"name": tool["function"]["name"], "arguments": tool_arguments(tool)},
            }
            for i, tool in enumerate((tools * wanted)[:wanted])
        ]

    def usage(self) -> Json:
        """Words in, words out; reasoning counts as output."""
        prompt = tokens(prompt_text(self.body["messages"]))
        thought = tokens(self.behaviour.reasoning) * len(self.choices)
        said = sum(tokens(c["content"] or c.get("refusal") or "") + len(c.get("tool_calls", ())) for c in self.choices)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": said + thought,
            "total_tokens": prompt + said + thought,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }

    def whole(self) -> Json:
        """The answer as one object."""
        choices = []
        for index, choice in enumerate(self.choices):
            message = {key: value for key, value in choice.items() if key != "finish_reason"}
            logprobs = {"content": [self._logprob(p) for p in pieces(message["content"] or "")]}
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "finish_reason": choice["finish_reason"],
                    "logprobs": logprobs if self.body.get("logprobs") else None,
                }
            )
        answer = {**self._head("chat.completion"), "choices": choices}
        if self.behaviour.usage != "never":
            answer["usage"] = self.usage()
        return answer

    def _logprob(self, piece: str) -> Json:
        top = [{"token": piece, "logprob": -0.5, "bytes": None}][: self.body.get("top_logprobs") or 0]
        return {"token": piece, "logprob": -0.5, "bytes": None, "top_logprobs": top}

    def _head(self, kind: str) -> Json:
        fingerprint = self.behaviour.fingerprint
        return {
            "id": "chatcmpl-mock",
            "object": kind,
            "created": _CREATED,
            "model": self.call.model,
            "system_fingerprint": fingerprint,
        }

    def _frame(self, choices: list[Json], **more: object) -> bytes:
        body = {**self._head("chat.completion.chunk"), "choices": choices, **more}
        return self._event(json.dumps(body, ensure_ascii=False))

    def _event(self, data: str) -> bytes:
        return f"data: {data}{self.behaviour.newline * 2}".encode()

    def _delta(self, index: int, delta: Json, finish: str | None = None, logprobs: Json | None = None) -> bytes:
        return self._frame([{"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}])

    def content_frames(self) -> Iterator[bytes]:
        """Frames with content, choice by choice in turns."""
        parts = [list(self._deltas(choice)) for choice in self.choices]
        for turn in range(max(map(len, parts), default=0)):
            for index, own in enumerate(parts):
                if turn < len(own):
                    delta, logprobs = own[turn]
                    yield self._delta(index, delta, logprobs=logprobs)

    def _deltas(self, choice: Json) -> Iterator[tuple[Json, Json | None]]:
        for piece in pieces(choice.get("reasoning_content", "")):
            yield {"reasoning_content": piece}, None
        for position, call in enumerate(choice.get("tool_calls", ())):
            name = {"name": call["function"]["name"], "arguments": ""}
            yield {"tool_calls": [{"index": position, "id": call["id"], "type": "function", "function": name}]}, None
            arguments = call["function"]["arguments"]
            for start in range(0, len(arguments), 5):
                part = {"arguments": arguments[start : start + 5]}
                yield {"tool_calls": [{"index": position, "function": part}]}, None
        for piece in pieces(choice.get("refusal", "")):
            yield {"refusal": piece}, None
        for piece in pieces(choice["content"] or ""):
            logprobs = {"content": [self._logprob(piece)], "refusal": None} if self.body.get("logprobs") else None
            yield {"content": piece}, logprobs

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The answer as server-sent events, with the behaviour's pace and mishaps."""
        behaviour = self.behaviour
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for index in range(len(self.choices)):
            await response.write(self._delta(index, {"role": "assistant", "content": ""}))
        waiting: list[bytes] = []
        for frame in self.content_frames():
            if await self._mishap(request, response, waiting):
                return response
            if behaviour.delay_ms and self.call.chunks:
                await asyncio.sleep(behaviour.delay_ms / 1000)
            waiting.append(frame)
            if len(waiting) >= behaviour.batch:
                await response.write(b"".join(waiting))
                self.call.chunks += len(waiting)
                waiting.clear()
        self.call.chunks += len(waiting)
        await response.write(b"".join(waiting)) if waiting else None
        waiting.clear()
        if await self._mishap(request, response, waiting):
            return response
        await response.write(self._tail())
        await response.write_eof()
        return response

    def _tail(self) -> bytes:
        frames = [self._delta(index, {}, choice["finish_reason"]) for index, choice in enumerate(self.choices)]
        asked = (self.body.get("stream_options") or {}).get("include_usage")
        if asked and self.behaviour.usage != "never":
            frames.append(self._frame([], usage=self.usage()))
        return b"".join([*frames, self._event("[DONE]")])

    async def _mishap(self, request: web.Request, response: web.StreamResponse, waiting: list[bytes]) -> bool:
        """What goes wrong at this point of the stream; True if the stream is over."""
        behaviour = self.behaviour
        sent = self.call.chunks + len(waiting)
        if sent not in (behaviour.cut_after, behaviour.hang_after, behaviour.error_after):
            return False
        if waiting:
            await response.write(b"".join(waiting))
            self.call.chunks += len(waiting)
            waiting.clear()
        if sent == behaviour.hang_after:
            await asyncio.Event().wait()
        if sent == behaviour.error_after:
            told = {"message": "The mock broke.", "type": "server_error", "code": None, **behaviour.error}
            await response.write(self._event(json.dumps({"error": told})))
            await response.write_eof()
        elif behaviour.cut == "eof":
            await response.write_eof()
        else:
            await _abort(request, response)
        return True


async def _abort(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the socket under the answer, once what was written has left."""
    transport = request.transport
    if transport is not None:
        transport.close()
    return response
