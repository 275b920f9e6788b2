"""Reads a whole chat completion in OpenAI's JSON, and whole embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from integration.models.doors.frames import FINISH, told
from integration.models.port import Answer, Choice, End, Json, Vectors


def answer(body: Json) -> Answer:
    """The answer that a chat completion object holds."""
    choices = sorted(body.get("choices") or (), key=lambda choice: choice.get("index") or 0)
    finish = {}
    for position, choice in enumerate(choices):
        reason = choice.get("finish_reason") or "stop"
        finish[position] = FINISH.get(reason, reason)
    usage = body.get("usage")
    model, fingerprint = body.get("model") or "", body.get("system_fingerprint") or ""
    end = End(finish or {0: "stop"}, told(usage) if usage else None, model, fingerprint)
    return Answer([_choice(choice) for choice in choices], end)


def _choice(choice: Json) -> Choice:
    message = choice.get("message") or {}
    calls = [
        (call.get("id") or "", call["function"].get("name") or "", call["function"].get("arguments") or "")
        for call in message.get("tool_calls") or ()
    ]
    return Choice(
        text=message.get("content") or "",
        reasoning=message.get("reasoning_content") or message.get("reasoning") or "",
        refusal=message.get("refusal") or "",
        tool_calls=calls,
        logprobs=choice.get("logprobs"),
    )


def vectors(body: Json) -> Vectors:
    """The vectors that an embeddings object holds, floats or base64 of little-endian float32."""
    data = sorted(body.get("data") or (), key=lambda item: item.get("index") or 0)
    usage = body.get("usage")
    return Vectors([_floats(item["embedding"]) for item in data], told(usage) if usage else None, body.get("model", ""))


def _floats(value: str | Sequence[float]) -> Sequence[float]:
    if not isinstance(value, str):
        return value
    raw = base64.b64decode(value)
    return struct.unpack(f"<{len(raw) // 4}f", raw)
