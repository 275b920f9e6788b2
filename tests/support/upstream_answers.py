"""What the mock upstream answers: pure functions of the request, so that any test can tell what will come.

`text_for(messages, words)` is the answer of every chat; `pieces` is how a stream cuts it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from typing import Any

_WORDS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "indigo", "juniper", "kelp", "larch"),
    *("meadow", "north", "ocean", "pine", "quartz", "river", "stone", "tide", "umber", "valley", "willow", "yarrow"),
)
_PIECE = re.compile(r"\s*\S+")

Json = dict[str, Any]


def digest(value: object) -> bytes:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).digest()


def prompt_text(messages: list[Json]) -> str:
    """All text of a conversation, one line a message; pictures, sounds and files as a short fingerprint."""
    lines = []
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        lines.append(f"{message['role']}: " + " ".join(_part_text(part) for part in parts))
    return "\n".join(lines)


def _part_text(part: Json) -> str:
    if part["type"] in ("text", "input_text", "output_text"):
        return str(part["text"])
    return echo_of(part)


def echo_of(part: Json) -> str:
    """Fingerprint of a part that is not text: "[image_url 1a2b3c4d]"."""
    return f"[{part['type']} {digest(part.get(part['type'])).hex()[:8]}]"


def echoes(messages: list[Json]) -> str:
    """Fingerprints of all parts that are not text, in order; empty if there are none."""
    parts = [part for message in messages for part in _parts(message) if part["type"] not in ("text", "refusal")]
    return " ".join(echo_of(part) for part in parts)


def _parts(message: Json) -> list[Json]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def split_prefill(messages: list[Json]) -> tuple[list[Json], str]:
    """The conversation without a trailing assistant message, and that message's text ("" without one)."""
    if messages and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        return messages[:-1], " ".join(_part_text(p) for p in _parts(messages[-1])) or str(messages[-1]["content"])
    return messages, ""


def text_for(messages: list[Json], words: int, choice: int = 0) -> str:
    """The answer to a conversation: `words` words drawn by its hash, after the echo of pictures and the like.

    No two neighbouring words are equal, and every word carries its number: a lost or repeated one is seen.
    """
    seed = digest([prompt_text(messages), choice])
    drawn = [f"{_WORDS[(seed[i % 32] + 7 * i) % len(_WORDS)]}{i}" for i in range(words)]
    head = echoes(messages)
    return " ".join(([head] if head else []) + drawn)


def pieces(text: str) -> list[str]:
    """Text cut before each blank, as a stream sends it; joined again they are the text."""
    return _PIECE.findall(text) or ([text] if text else [])


def tokens(text: str) -> int:
    """Tokens the mock bills for a text: one for each word."""
    return len(text.split())


def json_for(schema: Json) -> Any:
    """The smallest value that a JSON schema allows, strings and numbers fixed."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: json_for(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [json_for(schema.get("items", {"type": "string"}))]
    return {"string": "willow", "integer": 7, "number": 7.5, "boolean": True, "null": None}[kind]


def tool_arguments(tool: Json) -> str:
    """Arguments that the mock gives when it calls a tool."""
    return json.dumps(json_for(tool["function"].get("parameters") or {"type": "object"}))


def vector(text: str, dimensions: int) -> list[float]:
    """A vector that depends on the text alone, components in [-1, 1)."""
    raw = hashlib.shake_256(text.encode()).digest(dimensions * 2)
    return [value / 32768 for value in struct.unpack(f"<{dimensions}h", raw)]


def embedding(text: str, dimensions: int, encoding: str) -> list[float] | str:
    """A vector in the encoding asked for: floats, or base64 of little-endian float32."""
    values = vector(text, dimensions)
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()
    return values
