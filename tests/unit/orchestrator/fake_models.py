"""A deterministic model gateway: the same answer every time, held, cut or broken where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from fastchat.common.v1.event_pb2 import StatusPayload, TokenPayload
from fastchat.common.v1.message_pb2 import ChatMessage, ContentPart, Role
from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from fastchat.integration.v1.model_service_pb2 import (
    CallModelRequest,
    CallModelResponse,
    CountTokensRequest,
    CountTokensResponse,
    ModelCall,
    ModelChoice,
    ModelResult,
    StreamModelRequest,
    StreamModelResponse,
)
from fastchat.integration.v1.model_service_pb2_grpc import ModelServiceServicer
from kit.errors import PlatformError, Reason
from tests.unit.orchestrator.samples import TOOL, delta

WORDS = [f"word{number} " for number in range(30)]
ANSWER = "".join(WORDS)
PROMPT_TOKENS = 7


def away() -> PlatformError:
    return PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "gone", dependency="integration")


@dataclass
class Script:
    """What the gateway does. One for all calls."""

    words: list[str] = field(default_factory=lambda: list(WORDS))
    tool: bool = False
    reasoning: bool = False
    status: str = ""
    break_after: list[int] = field(default_factory=list)
    """For each call in turn: pieces after which the gateway goes away. Calls beyond the list go through."""
    failure: PlatformError | None = None
    """Raised instead of an answer."""
    hold_after: int | None = None
    """Pieces after which every call waits for `release`."""
    held_calls: int = 1000
    """Only so many calls are held."""
    release: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[ModelCall] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    finished: int = 0
    sent: int = 0


def usage_of(words: int) -> Usage:
    return Usage(
        prompt_tokens=PROMPT_TOKENS,
        completion_tokens=words,
        total_tokens=PROMPT_TOKENS + words,
        cost_micros=words,
        cost_known=True,
    )


def _result(script: Script, call: ModelCall, words: int, whole: bool = False) -> ModelResult:
    choices = [ModelChoice(index=index, finish_reason="stop") for index in range(max(1, call.options.n))]
    if whole:
        for choice in choices:
            text = [ContentPart(text="".join(script.words))]
            choice.message.CopyFrom(ChatMessage(role=Role.ROLE_ASSISTANT, content=text))
    leg = LegUsage(model_alias=call.model_alias, provider="fake", usage=usage_of(words), outcome="stop")
    result = ModelResult(choices=choices, finish_reason="stop", provider="fake", legs=[*call.earlier_legs, leg])
    result.usage.CopyFrom(leg.usage)
    return result


class FakeModels:
    """Implements the orchestrator's ModelPort in process."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def stream(self, call: ModelCall, timeout_s: float, usage_every: int) -> AsyncIterator[StreamModelResponse]:
        script = self.script
        number = len(script.calls)
        script.calls.append(call)
        if script.failure is not None:
            raise script.failure
        breaks = script.break_after[number] if number < len(script.break_after) else None
        try:
            for count, piece in enumerate(self._pieces(call, usage_every)):
                if breaks is not None and count >= breaks:
                    raise away()
                if number < script.held_calls and script.hold_after is not None and count >= script.hold_after:
                    script.held.set()
                    await script.release.wait()
                await asyncio.sleep(0)
                script.sent += 1
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            script.cancelled.set()
            raise
        script.finished += 1

    def _pieces(self, call: ModelCall, usage_every: int) -> list[StreamModelResponse]:
        script = self.script
        text = "".join(script.words)
        rest = text[len(call.continue_from) :] if text.startswith(call.continue_from) else text
        words = _split(rest, script.words)
        pieces: list[StreamModelResponse] = []
        if script.status:
            pieces.append(StreamModelResponse(status=StatusPayload(message=script.status)))
        if script.reasoning and not call.continue_from:
            pieces.append(_token(TokenPayload(deltas=[delta("thinking", kind=2)])))
        for index, word in enumerate(words):
            for choice in range(max(1, call.options.n)):
                if script.tool:
                    opening = {"tool_call_id": f"call{len(script.calls)}", "tool_name": "f"} if index == 0 else {}
                    pieces.append(_token(TokenPayload(deltas=[delta(word, TOOL, choice, **opening)])))
                else:
                    pieces.append(_token(TokenPayload(deltas=[delta(word, choice=choice)])))
            if usage_every and (index + 1) % usage_every == 0:
                pieces.append(StreamModelResponse(usage=usage_of(index + 1)))
        pieces.append(StreamModelResponse(result=_result(script, call, len(words))))
        return pieces

    async def call(self, call: ModelCall, timeout_s: float) -> ModelResult:
        self.script.calls.append(call)
        if self.script.failure is not None:
            raise self.script.failure
        if self.script.hold_after is not None and not self.script.release.is_set():
            self.script.held.set()
            await self.script.release.wait()
        return _result(self.script, call, len(self.script.words), whole=True)

    async def count(self, call: ModelCall, text: str) -> tuple[int, int]:
        return PROMPT_TOKENS, len(text.split())


def _token(payload: TokenPayload) -> StreamModelResponse:
    return StreamModelResponse(token=payload)


def _split(rest: str, words: list[str]) -> list[str]:
    """The rest of the answer, cut where the words end."""
    pieces: list[str] = []
    for word in reversed(words):
        if not rest:
            break
        size = min(len(word), len(rest))
        pieces.append(rest[-size:])
        rest = rest[:-size]
    return pieces[::-1]


class FakeGateway(ModelServiceServicer):
    """The same over gRPC, as the integration service would serve it."""

    def __init__(self, script: Script) -> None:
        self.script = script

    async def StreamModel(self, request: StreamModelRequest, context: object) -> AsyncIterator[StreamModelResponse]:
        async with aclosing(FakeModels(self.script).stream(request.call, 60, request.usage_every_tokens)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def CallModel(self, request: CallModelRequest, context: object) -> CallModelResponse:
        return CallModelResponse(result=await FakeModels(self.script).call(request.call, 60))

    async def CountTokens(self, request: CountTokensRequest, context: object) -> CountTokensResponse:
        text = " ".join(request.input)
        return CountTokensResponse(tokens=len(text.split()) if text else PROMPT_TOKENS)
