"""Token counts without a network: LiteLLM's shipped tokenizers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from integration.models.port import Json, Target
from integration.models.runtime import litellm

# Models that tiktoken counts as their provider does; all others are counted with the nearest that is shipped.
_EXACT_PROVIDERS = frozenset({"openai", "azure", "text-completion-openai"})
_SMALL = 20_000
_PICTURE_TOKENS = 85
_MEDIA_TOKENS = 500


def exact(target: Target) -> bool:
    """Whether the tokenizer is the model's own."""
    known = target.model in litellm.open_ai_chat_completion_models
    return target.provider == "offline" or (target.provider in _EXACT_PROVIDERS and known)


def count_text(target: Target, text: str) -> int:
    """Tokens of a text. Blocks for about a millisecond per 3,000 characters."""
    if target.provider == "offline":
        return len(text.split())
    return int(litellm.token_counter(model=target.model, text=text)) if text else 0


def count_prompt(target: Target, messages: list[Json], tools: list[Json] | None) -> int:
    """Tokens of a prompt with its tools. Pictures count as a small one, sounds and files as a short one."""
    if target.provider == "offline":
        return len(_all_text(messages).split())
    flat, media = _flattened(messages)
    return int(litellm.token_counter(model=target.model, messages=flat, tools=tools)) + media


def upper_bound(messages: list[Json], tools: list[Json] | None) -> int:
    """No prompt has more tokens than this: a token is at least one byte of UTF-8, and each message adds a few."""
    _, media = _flattened(messages)
    size = len(_all_text(messages).encode()) + len(repr(tools).encode() if tools else b"")
    return size + media + 8 * len(messages) + 16


async def in_time(count: int, function: object, *arguments: object) -> int:
    """Call a counting function, in a thread when `count` characters would hold up the loop."""
    if count <= _SMALL:
        return int(function(*arguments))  # type: ignore[operator]
    return int(await asyncio.to_thread(function, *arguments))  # type: ignore[arg-type]


def _flattened(messages: list[Json]) -> tuple[list[Json], int]:
    """Messages with text alone, and the tokens put down for everything else (counting must not fetch a picture)."""
    flat, media = [], 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            media += sum(map(_media_tokens, content))
            content = "\n".join(part["text"] for part in content if part["type"] == "text")
        flat.append({**message, "content": content})
    return flat, media


def _media_tokens(part: Json) -> int:
    if part["type"] in ("text", "refusal"):
        return 0
    return _PICTURE_TOKENS if part["type"] == "image_url" else _MEDIA_TOKENS


def _all_text(messages: Sequence[Json]) -> str:
    pieces: list[str] = []
    for message in messages:
        content = message.get("content") or ""
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        pieces.extend(part.get("text") or part.get("refusal") or "" for part in parts)
        pieces.extend(
            call["function"]["name"] + call["function"]["arguments"] for call in message.get("tool_calls", ())
        )
    return "\n".join(pieces)
