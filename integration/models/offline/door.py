"""The door to the offline model: straight, since nothing has to be translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from integration.models.offline import answers, vectors
from integration.models.offline.answers import Directives, Reply
from integration.models.options import unsupported
from integration.models.port import (
    REASONING,
    TEXT,
    TOOL_ARGUMENTS,
    Answer,
    Batch,
    ChatRequest,
    Choice,
    Delta,
    End,
    Failure,
    Json,
    Target,
    Told,
    Vectors,
)
from kit.errors import PlatformError

_WORDS_AT_ONCE = 16
_UNSUPPORTED = ("logprobs", "top_logprobs", "prediction", "web_search_options")


class OfflineDoor:
    """Answers in process."""

    async def close(self) -> None:
        """Nothing is open."""

    async def stream(self, target: Target, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """See Door."""
        _check(target, request)
        pace = answers.directives(request.messages)
        replies = _replies(request)
        await asyncio.sleep(pace.first_delay_ms / 1000)
        first = True
        for index, reply in enumerate(replies):
            for delta in _deltas(reply, index, pace):
                if not first:
                    # without a pace, too: one long answer must not keep the others waiting
                    await asyncio.sleep(pace.delay_ms / 1000)
                first = False
                yield Batch([delta])
        yield Batch([], _end(target, request, replies))

    async def call(self, target: Target, request: ChatRequest) -> Answer:
        """See Door."""
        _check(target, request)
        pace = answers.directives(request.messages)
        replies = _replies(request)
        words = sum(len(answers.pieces(reply.text)) for reply in replies)
        await asyncio.sleep((pace.first_delay_ms + max(0, words - 1) * pace.delay_ms) / 1000)
        choices = [Choice(reply.text, reply.reasoning, "", list(reply.calls)) for reply in replies]
        return Answer(choices, _end(target, request, replies))

    async def embed(self, target: Target, texts: Sequence[str], params: Json) -> Vectors:
        """See Door."""
        try:
            values = await vectors.embed(texts, params.get("dimensions"))
        except PlatformError as error:
            raise Failure(error, retryable=False) from None
        return Vectors(values, Told(prompt=sum(len(text.split()) for text in texts)), target.model)


def _check(target: Target, request: ChatRequest) -> None:
    for name in (*_UNSUPPORTED, *request.extra):
        if request.params.get(name) or name in request.extra:
            raise Failure(unsupported(name, target.provider, target.model), retryable=False)


def _replies(request: ChatRequest) -> list[Reply]:
    return [answers.reply(request.messages, request.params, i) for i in range(request.params.get("n", 1))]


def _deltas(reply: Reply, index: int, pace: Directives) -> list[Delta]:
    size = 1 if pace.delay_ms else _WORDS_AT_ONCE
    deltas = [
        Delta(kind, "".join(group), index, merged=len(group))
        for kind, text in ((REASONING, reply.reasoning), (TEXT, reply.text))
        for group in answers.groups(answers.pieces(text), size)
    ]
    for slot, (call_id, name, arguments) in enumerate(reply.calls):
        deltas.append(Delta(TOOL_ARGUMENTS, "", index, slot, call_id, name))
        deltas.append(Delta(TOOL_ARGUMENTS, arguments, index, slot))
    return deltas


def _end(target: Target, request: ChatRequest, replies: list[Reply]) -> End:
    completion, reasoning = answers.completion_tokens(replies)
    usage = Told(answers.prompt_tokens(request.messages), completion, reasoning=reasoning)
    return End({i: reply.finish for i, reply in enumerate(replies)}, usage, target.model, "offline")
