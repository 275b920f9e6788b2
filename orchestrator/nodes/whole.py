"""A whole answer, told as the deltas that a stream would have brought."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from fastchat.common.v1.event_pb2 import TokenDelta, TokenKind
from fastchat.integration.v1.model_service_pb2 import ModelChoice


def deltas_of(choice: ModelChoice) -> Iterator[TokenDelta]:
    """Reasoning, text, refusal and tool calls of a choice, one delta each."""
    message, index = choice.message, choice.index
    if message.reasoning:
        yield TokenDelta(kind=TokenKind.TOKEN_KIND_REASONING, choice_index=index, text=message.reasoning, merged=1)
    if text := "".join(part.text for part in message.content):
        yield TokenDelta(
            kind=TokenKind.TOKEN_KIND_TEXT,
            choice_index=index,
            text=text,
            logprobs_json=_entries(choice.logprobs_json, "content"),
            merged=1,
        )
    if refusal := message.refusal or "".join(part.refusal for part in message.content):
        yield TokenDelta(
            kind=TokenKind.TOKEN_KIND_REFUSAL,
            choice_index=index,
            text=refusal,
            logprobs_json=_entries(choice.logprobs_json, "refusal"),
            merged=1,
        )
    for position, call in enumerate(message.tool_calls):
        yield TokenDelta(
            kind=TokenKind.TOKEN_KIND_TOOL_ARGUMENTS,
            choice_index=index,
            text=call.arguments_json,
            tool_index=position,
            tool_call_id=call.id,
            tool_name=call.name,
            merged=1,
        )


def _entries(logprobs_json: str, part: str) -> str:
    """The array of one part of OpenAI's choice.logprobs object; empty where there is none."""
    if not logprobs_json:
        return ""
    entries = orjson.loads(logprobs_json).get(part)
    return orjson.dumps(entries).decode() if entries else ""
