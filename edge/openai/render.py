"""Protos -> OpenAI JSON: messages, tool calls, usage."""

from __future__ import annotations

from typing import Any

from fastchat.common.v1 import message_pb2 as pb
from fastchat.common.v1 import usage_pb2

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}


def role_name(role: pb.Role.ValueType) -> str:
    """OpenAI's name of a role."""
    return _ROLES[role]


def content_json(message: pb.ChatMessage) -> str | list[dict[str, Any]] | None:
    """`content` as the client wrote it: one string, parts, or null."""
    if not message.content:
        return None
    if message.plain_text:
        return message.content[0].text
    return [_part(part) for part in message.content]


def tool_calls_json(message: pb.ChatMessage) -> list[dict[str, Any]]:
    """`tool_calls` of an assistant message."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
        for call in message.tool_calls
    ]


def plain_text(message: pb.ChatMessage) -> str:
    """The text parts of a message, joined by spaces: for titles and previews."""
    return " ".join(part.text for part in message.content if part.WhichOneof("part") == "text")


def usage_json(usage: usage_pb2.Usage) -> dict[str, Any]:
    """`usage` of a chat completion."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _part(part: pb.ContentPart) -> dict[str, Any]:
    kind = part.WhichOneof("part")
    if kind == "image":
        image: dict[str, Any] = {"url": part.image.url}
        if part.image.detail:
            image["detail"] = part.image.detail
        return {"type": "image_url", "image_url": image}
    if kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": part.audio.data, "format": part.audio.format}}
    if kind == "file":
        file = {name: getattr(part.file, name) for name in ("file_id", "file_data", "filename")}
        return {"type": "file", "file": {name: value for name, value in file.items() if value}}
    if kind == "refusal":
        return {"type": "refusal", "refusal": part.refusal}
    return {"type": "text", "text": part.text}
