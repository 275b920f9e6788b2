"""Messages and tools: this platform's protos as the JSON of OpenAI's chat completions, and answers back."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from fastchat.common.v1.message_pb2 import ChatMessage, ContentPart, Role, ToolCall, ToolDefinition
from integration.models.port import Choice, Json
from kit.errors import PlatformError, Reason

_ROLES = {
    Role.ROLE_SYSTEM: "system",
    Role.ROLE_DEVELOPER: "developer",
    Role.ROLE_USER: "user",
    Role.ROLE_ASSISTANT: "assistant",
    Role.ROLE_TOOL: "tool",
}


def to_messages(messages: Iterable[ChatMessage]) -> list[Json]:
    """OpenAI's messages. Raises INVALID_ARGUMENT naming the field, UNSUPPORTED_FEATURE for a stored file."""
    return [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _message(message: ChatMessage, where: str) -> Json:
    role = _ROLES.get(message.role)
    if role is None:
        raise PlatformError.invalid(f"{where}.role", "The role of a message is missing.")
    result: Json = {"role": role, "content": _content(message, where)}
    if message.name:
        result["name"] = message.name
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        result["reasoning_content"] = message.reasoning
    if message.refusal:
        result["refusal"] = message.refusal
    if message.tool_calls:
        result["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return result


def _content(message: ChatMessage, where: str) -> str | list[Json] | None:
    parts = message.content
    if all(part.WhichOneof("part") == "text" for part in parts) and (message.plain_text or len(parts) <= 1):
        text = "".join(part.text for part in parts)
        return text if parts or not message.tool_calls else None
    return [_part(part, f"{where}.content[{i}]") for i, part in enumerate(parts)]


def _part(part: ContentPart, where: str) -> Json:
    kind = part.WhichOneof("part")
    if kind == "text":
        return {"type": "text", "text": part.text}
    if kind == "image":
        image = {"url": part.image.url, **({"detail": part.image.detail} if part.image.detail else {})}
        return {"type": "image_url", "image_url": image}
    if kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": part.audio.data, "format": part.audio.format}}
    if kind == "file":
        return {"type": "file", "file": _file(part, where)}
    if kind == "refusal":
        return {"type": "refusal", "refusal": part.refusal}
    raise PlatformError.invalid(where, "A content part is empty.")


def _file(part: ContentPart, where: str) -> Json:
    if not part.file.file_data:
        message = "A stored file cannot be sent to a model by its id; send its content."
        raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, field=f"{where}.file.file_id", feature="file_id")
    name = {"filename": part.file.filename} if part.file.filename else {}
    return {"file_data": part.file.file_data, **name}


def _tool_call(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}


def to_tools(tools: Iterable[ToolDefinition]) -> list[Json]:
    """OpenAI's tools; the order of keys in parameters is kept."""
    return [_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]


def _tool(tool: ToolDefinition, where: str) -> Json:
    if not tool.name:
        raise PlatformError.invalid(f"{where}.function.name", "A tool needs a name.")
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json:
        function["parameters"] = json_object(tool.parameters_json, f"{where}.function.parameters")
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def json_object(text: str, where: str) -> Json:
    """A JSON object from text; INVALID_ARGUMENT naming the field if it is none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise PlatformError.invalid(where, f"{where} must be a JSON object.")
    return value


def to_chat_message(choice: Choice) -> ChatMessage:
    """An answer's choice as a message of the assistant."""
    message = ChatMessage(role=Role.ROLE_ASSISTANT, reasoning=choice.reasoning, refusal=choice.refusal, plain_text=True)
    if choice.text or not (choice.tool_calls or choice.refusal):
        message.content.append(ContentPart(text=choice.text))
    for call_id, name, arguments in choice.tool_calls:
        message.tool_calls.append(ToolCall(id=call_id, name=name, arguments_json=arguments))
    return message


def text_of(messages: Iterable[ChatMessage]) -> str:
    """All text of messages, for hashes and rough sizes."""
    return "\n".join(part.text for message in messages for part in message.content if part.text)
