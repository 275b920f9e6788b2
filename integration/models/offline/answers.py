"""What the offline model answers: pure functions of the request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from integration.models.offline.schemas import example
from integration.models.port import Json

NAME = "offline"
_INTRO = "This is Fast-Chat's offline model: not an AI, but a deterministic stand-in that needs no key and no network."
_WORDS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "indigo", "juniper", "kelp", "larch"),
    *("meadow", "north", "ocean", "pine", "quartz", "river", "stone", "tide", "umber", "valley", "willow", "yarrow"),
)
_DIRECTIVE = re.compile(r"\[\[([^\[\]]*)\]\]")
_PIECE = re.compile(r"\s*\S+\s*\Z|\s*\S+")
_MEDIA_NAMES = {"image_url": "image", "input_audio": "sound", "file": "file"}
_QUOTED = 300
_MAX_WORDS = 20_000
_MAX_DELAY_MS = 60_000


@dataclass(frozen=True, slots=True)
class Directives:
    """What the last user message tells in [[...]]."""

    words: int | None = None
    delay_ms: int = 0
    first_delay_ms: int = 0
    reasoning: int = 0
    call: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice of an answer."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str, str], ...]
    """(id, name, arguments JSON text)"""
    finish: str


def directives(messages: list[Json]) -> Directives:
    """Directives of the last user message; unknown ones and ones out of range are left alone."""
    told: dict[str, str] = {}
    for group in _DIRECTIVE.findall(_last_user(messages)):
        told.update(word.split(":", 1) for word in group.split() if ":" in word)
    words = _number(told, "words", _MAX_WORDS)
    return Directives(
        words=words,
        delay_ms=_number(told, "delay_ms", _MAX_DELAY_MS) or 0,
        first_delay_ms=_number(told, "first_delay_ms", _MAX_DELAY_MS) or 0,
        reasoning=_number(told, "reasoning", _MAX_WORDS) or 0,
        call=told.get("call", ""),
    )


def _number(told: dict[str, str], name: str, most: int) -> int | None:
    text = told.get(name, "")
    return min(int(text), most) if text.isdecimal() else None


def reply(messages: list[Json], params: Json, choice: int = 0) -> Reply:
    """The answer to a conversation, going on from an assistant message at its end."""
    conversation, prefix = _split_prefill(messages)
    wanted = directives(conversation)
    reasoning = _reasoning(wanted, params, conversation, choice) if not prefix else ""
    calls = _calls(conversation, params, wanted, choice)
    if calls:
        return Reply("", reasoning, calls, "tool_calls")
    whole = _structured(params) or _text(conversation, wanted, choice)
    text = whole[len(prefix) :] if whole.startswith(prefix) else whole
    text, finish = _limited(_stopped(text, params), params)
    return Reply(text, reasoning, (), finish)


def pieces(text: str) -> list[str]:
    """Text cut before the blanks between words; joined again they are the text."""
    return _PIECE.findall(text) or ([text] if text else [])


def groups(parts: list[str], size: int) -> Iterator[list[str]]:
    """The first part alone, then `size` at a time."""
    if parts:
        yield parts[:1]
    for start in range(1, len(parts), size):
        yield parts[start : start + size]


def prompt_tokens(messages: list[Json]) -> int:
    """Words of the prompt."""
    return sum(len(_content(message).split()) for message in messages)


def completion_tokens(replies: list[Reply]) -> tuple[int, int]:
    """(words of the answer, reasoning included; words of reasoning)."""
    thought = sum(len(reply.reasoning.split()) for reply in replies)
    said = sum(len(reply.text.split()) + sum(len(call[2].split()) for call in reply.calls) for reply in replies)
    return thought + said, thought


def _content(message: Json) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text") or "" for part in content if part.get("type") == "text")


def _last(messages: list[Json], role: str) -> str:
    return next((_content(message) for message in reversed(messages) if message["role"] == role), "")


def _last_user(messages: list[Json]) -> str:
    return _last(messages, "user")


def _split_prefill(messages: list[Json]) -> tuple[list[Json], str]:
    last = messages[-1] if messages else {"role": ""}
    if last["role"] == "assistant" and not last.get("tool_calls"):
        return messages[:-1], _content(last)
    return messages, ""


def _text(messages: list[Json], wanted: Directives, choice: int) -> str:
    answer = f"{_INTRO} {_about(messages)}"
    if choice:
        answer = f"({choice + 1}) {answer}"
    if wanted.words is None:
        return answer
    words = answer.split()[: wanted.words]
    return " ".join([*words, *_drawn(messages, wanted.words - len(words), choice)])


def _about(messages: list[Json]) -> str:
    if messages and messages[-1]["role"] == "tool":
        return f"The tool answered: {_quoted(_content(messages[-1]))}"
    asked = _DIRECTIVE.sub("", _last_user(messages)).strip()
    media = _media(messages)
    return f"You wrote: {_quoted(asked)}{media}" if asked else f"You wrote nothing.{media}"


def _quoted(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _media(messages: list[Json]) -> str:
    contents = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    kinds = [part["type"] for content in contents for part in content if part["type"] in _MEDIA_NAMES]
    if not kinds:
        return ""
    counted = (f"{kinds.count(kind)} {_MEDIA_NAMES[kind]}" for kind in dict.fromkeys(kinds))
    return f" (with {', '.join(counted)})"


def _drawn(messages: list[Json], count: int, choice: int) -> list[str]:
    """Numbered words by the conversation's hash; no two neighbours are equal."""
    told = "\n".join(f"{message['role']}:{_content(message)}" for message in messages)
    seed = hashlib.sha256(f"{choice}\n{told}".encode()).digest()
    return [f"{_WORDS[(seed[i % 32] + i) % len(_WORDS)]}{i + 1}" for i in range(count)]


def _reasoning(wanted: Directives, params: Json, messages: list[Json], choice: int) -> str:
    count = wanted.reasoning or (12 if params.get("reasoning_effort") not in (None, "none") else 0)
    return " ".join(_drawn(messages, count, choice + 1000))


def _structured(params: Json) -> str:
    shape = params.get("response_format") or {}
    if shape.get("type") == "json_schema":
        schema = shape["json_schema"].get("schema") or {}
        return orjson.dumps(example(schema)).decode()
    if shape.get("type") == "json_object":
        return orjson.dumps({"model": NAME, "answer": _INTRO}).decode()
    return ""


def _calls(messages: list[Json], params: Json, wanted: Directives, choice: int) -> tuple[tuple[str, str, str], ...]:
    tools = {tool["function"]["name"]: tool["function"] for tool in params.get("tools") or ()}
    name = _asked_tool(tools, params.get("tool_choice"), wanted, messages)
    if not name:
        return ()
    arguments = orjson.dumps(example(tools[name].get("parameters") or {"type": "object"})).decode()
    turns = sum(1 for message in messages if message.get("tool_calls"))
    return ((f"call_{NAME}_{turns}_{choice}", name, arguments),)


def _asked_tool(tools: dict[str, Json], choice: object, wanted: Directives, messages: list[Json]) -> str:
    if not tools or choice == "none":
        return ""
    if isinstance(choice, dict):
        name = str(choice.get("function", {}).get("name", ""))
        return name if name in tools else ""
    if choice == "required":
        return wanted.call if wanted.call in tools else next(iter(tools))
    if messages[-1]["role"] == "tool":
        return ""
    if wanted.call:
        return wanted.call if wanted.call in tools else ""
    asked = _last_user(messages)
    return next((name for name in tools if re.search(rf"\b{re.escape(name)}\b", asked)), "")


def _stopped(text: str, params: Json) -> str:
    stop = params.get("stop") or []
    ends = [text.find(sign) for sign in ([stop] if isinstance(stop, str) else stop) if sign and sign in text]
    return text[: min(ends)] if ends else text


def _limited(text: str, params: Json) -> tuple[str, str]:
    limit = params.get("max_completion_tokens") or params.get("max_tokens")
    parts = pieces(text)
    return ("".join(parts[:limit]), "length") if limit and len(parts) > limit else (text, "stop")
