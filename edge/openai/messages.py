"""Messages of a chat request -> ChatMessage."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from edge.openai.fields import (
    Json,
    array,
    choice,
    function_name,
    missing,
    not_implemented,
    obj,
    only,
    optional_string,
    string,
    unsupported,
    wrong_type,
    wrong_value,
)
from fastchat.common.v1 import message_pb2 as pb

ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
    "function": pb.ROLE_TOOL,
}

# The original's front end tells of uploads by such a line at the end of the user's text.
_ATTACHED = re.compile(r"\[Attached files:\s*[^\]]*\bfile-[^\]]*\]\s*\Z")

_COMMON = ("role", "content", "name")
_ALLOWED: dict[str, tuple[str, ...]] = {
    "system": _COMMON,
    "developer": _COMMON,
    "user": _COMMON,
    "function": _COMMON,
    "tool": (*_COMMON, "tool_call_id"),
    # annotations and audio come back when a client echoes an answer as it was
    "assistant": (*_COMMON, "tool_calls", "function_call", "refusal", "reasoning_content", "annotations", "audio"),
}


def parse_messages(value: object) -> list[pb.ChatMessage]:
    """Parse `messages`: at least one."""
    items = array(value, "messages", fewest=1)
    messages: list[pb.ChatMessage] = []
    for index, item in enumerate(items):
        messages.append(_message(item, f"messages[{index}]", index, messages))
    return messages


def _message(item: object, path: str, index: int, before: list[pb.ChatMessage]) -> pb.ChatMessage:
    source = obj(item, path)
    if "role" not in source:
        missing(f"{path}.role")
    role = choice(source["role"], f"{path}.role", ROLES)
    only(source, _ALLOWED[role], path)
    message = pb.ChatMessage(role=ROLES[role])
    name = source.get("name")
    if name is not None:
        message.name = string(name, f"{path}.name", longest=256)
    if role == "assistant":
        _assistant(message, source, path, index)
    else:
        _content(message, source.get("content"), f"{path}.content", _PARTS[role])
        if role == "tool":
            _answer_to(message, source, path)
        elif role == "function":
            _legacy_answer(message, path, before)
    return message


def _content(message: pb.ChatMessage, value: object, path: str, parts: dict[str, _Part]) -> None:
    if type(value) is str:
        _refuse_attached(message.role, value, path)
        message.content.add().text = value
        message.plain_text = True
        return
    if value is None:
        missing(path)
    if type(value) is not list:
        wrong_type(path, "a string or an array of content parts", value)
    for position, item in enumerate(array(value, path, fewest=1)):
        _part(message, item, f"{path}[{position}]", parts)


def _part(message: pb.ChatMessage, item: object, path: str, parts: dict[str, _Part]) -> None:
    source = obj(item, path)
    if "type" not in source:
        missing(f"{path}.type")
    kind = choice(source["type"], f"{path}.type", parts)
    if source.get("prompt_cache_breakpoint") is not None:
        unsupported(f"{path}.prompt_cache_breakpoint", "Explicit prompt cache breakpoints are not supported.")
    only(source, ("type", kind, "prompt_cache_breakpoint"), path)
    parts[kind](message, source, path)


def _text(message: pb.ChatMessage, source: Json, path: str) -> None:
    text = string(_need(source, "text", path), f"{path}.text")
    _refuse_attached(message.role, text, f"{path}.text")
    message.content.add().text = text


def _refusal(message: pb.ChatMessage, source: Json, path: str) -> None:
    message.content.add().refusal = string(_need(source, "refusal", path), f"{path}.refusal")


def _image(message: pb.ChatMessage, source: Json, path: str) -> None:
    path = f"{path}.image_url"
    image = obj(_need(source, "image_url", path.rpartition(".")[0]), path)
    only(image, ("url", "detail"), path)
    url = string(_need(image, "url", path), f"{path}.url", empty=False)
    if not url.lower().startswith(("https://", "http://", "data:image/")):
        wrong_value(f"{path}.url", "expected an http(s) URL or a data URL of a picture.")
    detail = image.get("detail")
    if detail is not None:
        choice(detail, f"{path}.detail", ("auto", "low", "high"))
    message.content.add().image.CopyFrom(pb.ImagePart(url=url, detail=detail or ""))


def _audio(message: pb.ChatMessage, source: Json, path: str) -> None:
    path = f"{path}.input_audio"
    audio = obj(_need(source, "input_audio", path.rpartition(".")[0]), path)
    only(audio, ("data", "format"), path)
    data = string(_need(audio, "data", path), f"{path}.data", empty=False)
    kind = choice(_need(audio, "format", path), f"{path}.format", ("wav", "mp3"))
    message.content.add().audio.CopyFrom(pb.AudioPart(data=data, format=kind))


def _file(message: pb.ChatMessage, source: Json, path: str) -> None:
    path = f"{path}.file"
    file = obj(_need(source, "file", path.rpartition(".")[0]), path)
    only(file, ("file_id", "file_data", "filename"), path)
    if file.get("file_id") is not None:
        string(file["file_id"], f"{path}.file_id")
        not_implemented(f"{path}.file_id", "files", "Stored files are not available yet; send 'file_data' instead.")
    data = string(_need(file, "file_data", path), f"{path}.file_data", empty=False)
    part = pb.FilePart(file_data=data, filename=optional_string(file, "filename", f"{path}.filename", longest=512))
    message.content.add().file.CopyFrom(part)


_Part = Callable[[pb.ChatMessage, Json, str], None]
_TEXT: dict[str, _Part] = {"text": _text}
_USER: dict[str, _Part] = {"text": _text, "image_url": _image, "input_audio": _audio, "file": _file}
_PARTS = {"system": _TEXT, "developer": _TEXT, "tool": _TEXT, "function": _TEXT, "user": _USER}
_ASSISTANT: dict[str, _Part] = {"text": _text, "refusal": _refusal}


def _assistant(message: pb.ChatMessage, source: Json, path: str, index: int) -> None:
    calls = source.get("tool_calls")
    if calls is not None:
        for position, call in enumerate(array(calls, f"{path}.tool_calls")):
            message.tool_calls.append(_tool_call(call, f"{path}.tool_calls[{position}]"))
    if source.get("function_call") is not None:
        message.tool_calls.append(_legacy_call(source["function_call"], f"{path}.function_call", index))
    message.refusal = optional_string(source, "refusal", f"{path}.refusal")
    message.reasoning = optional_string(source, "reasoning_content", f"{path}.reasoning_content")
    if source.get("audio") is not None:
        unsupported(f"{path}.audio", "Audio answers are not supported.")
    content = source.get("content")
    if content is not None or not (message.tool_calls or message.refusal):
        _content(message, content, f"{path}.content", _ASSISTANT)


def _tool_call(item: object, path: str) -> pb.ToolCall:
    source = obj(item, path)
    only(source, ("id", "type", "function", "custom", "index"), path)
    kind = source.get("type", "function")
    if kind == "custom":
        unsupported(f"{path}.type", "Custom tools are not supported; use function tools.")
    choice(kind, f"{path}.type", ("function",))
    function = obj(_need(source, "function", path), f"{path}.function")
    return pb.ToolCall(
        id=string(_need(source, "id", path), f"{path}.id", empty=False),
        name=function_name(_need(function, "name", f"{path}.function"), f"{path}.function.name"),
        arguments_json=string(_need(function, "arguments", f"{path}.function"), f"{path}.function.arguments"),
    )


def _legacy_call(item: object, path: str, index: int) -> pb.ToolCall:
    source = obj(item, path)
    only(source, ("name", "arguments"), path)
    return pb.ToolCall(
        id=f"call_function_{index}",
        name=function_name(_need(source, "name", path), f"{path}.name"),
        arguments_json=string(_need(source, "arguments", path), f"{path}.arguments"),
    )


def _answer_to(message: pb.ChatMessage, source: Json, path: str) -> None:
    call = _need(source, "tool_call_id", path)
    message.tool_call_id = string(call, f"{path}.tool_call_id", empty=False)


def _legacy_answer(message: pb.ChatMessage, path: str, before: list[pb.ChatMessage]) -> None:
    """`role: function` answers by name; the call that it means is the nearest one of that name."""
    if not message.name:
        missing(f"{path}.name")
    for earlier in reversed(before):
        for call in reversed(earlier.tool_calls):
            if call.name == message.name:
                message.tool_call_id = call.id
                return
    wrong_value(f"{path}.name", "no earlier message calls that function.")


def _refuse_attached(role: pb.Role.ValueType, text: str, path: str) -> None:
    if role == pb.ROLE_USER and text.rstrip().endswith("]") and _ATTACHED.search(text):
        not_implemented(path, "files", "Attached files are not available yet.")


def _need(source: Json, name: str, path: str) -> Any:
    if name not in source:
        missing(f"{path}.{name}")
    return source[name]
