"""gateway.v1.Chat -> ModelCall, with the checks that the HTTP edge makes while it parses."""

from __future__ import annotations

import orjson

from edge.openai.fields import missing, only, wrong_value
from edge.openai.options import MOST_TOKENS, response_format
from fastchat.common.v1 import message_pb2
from fastchat.gateway.v1 import chat_service_pb2 as pb
from fastchat.integration.v1 import model_service_pb2 as models_pb

_OPTION_RANGES = (
    ("top_p", 0, 1),
    ("n", 1, 128),
    ("presence_penalty", -2, 2),
    ("frequency_penalty", -2, 2),
    ("top_logprobs", 0, 20),
)
# What the HTTP edge lets through to the provider as it is.
_EXTRA = (
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "verbosity",
    "prediction",
)


def to_call(chat: pb.Chat) -> models_pb.ModelCall:
    """The call that a partner's chat asks for; INVALID_ARGUMENT naming the field."""
    if not chat.messages:
        missing("chat.messages")
    for index, message in enumerate(chat.messages):
        _check_message(message, f"chat.messages[{index}]")
    _check_options(chat)
    call = models_pb.ModelCall(
        mode=models_pb.MODEL_MODE_CHAT,
        model_alias=chat.model,
        messages=chat.messages,
        tools=chat.tools,
        response_format_json=_format(chat.response_format_json),
        metadata=chat.metadata,
        options=chat.options,
    )
    if chat.HasField("max_tokens"):
        call.max_tokens = chat.max_tokens
    if chat.HasField("temperature"):
        call.temperature = chat.temperature
    return call


def _check_message(message: message_pb2.ChatMessage, path: str) -> None:
    if message.role not in message_pb2.Role.values() or message.role == message_pb2.ROLE_UNSPECIFIED:
        missing(f"{path}.role")
    if message.id:
        wrong_value(f"{path}.id", "ids of messages are given by the platform.")
    if not message.content and not message.tool_calls and not message.refusal:
        missing(f"{path}.content")
    for index, part in enumerate(message.content):
        if part.WhichOneof("part") is None:
            missing(f"{path}.content[{index}].part")
    if message.plain_text and (len(message.content) != 1 or message.content[0].WhichOneof("part") != "text"):
        wrong_value(f"{path}.plain_text", "a plain message has exactly one text part.")
    if message.role == message_pb2.ROLE_TOOL and not message.tool_call_id:
        missing(f"{path}.tool_call_id")


def _check_options(chat: pb.Chat) -> None:
    if chat.HasField("max_tokens"):
        _within("chat.max_tokens", chat.max_tokens, 1, MOST_TOKENS)
    if chat.HasField("temperature"):
        _within("chat.temperature", chat.temperature, 0, 2)
    for name, low, high in _OPTION_RANGES:
        if chat.options.HasField(name):  # type: ignore[arg-type]  # names of optional fields of this message
            _within(f"chat.options.{name}", getattr(chat.options, name), low, high)
    if len(chat.options.stop) > 4:
        wrong_value("chat.options.stop", "expected at most 4 sequences.")
    if len(chat.metadata) > 16:
        wrong_value("chat.metadata", "expected at most 16 pairs.")
    for name in ("tool_choice_json", "logit_bias_json"):
        _parsed(getattr(chat.options, name), f"chat.options.{name}")
    # anything else could redirect the call: addresses and keys are the registry's
    extra = _parsed(chat.options.extra_json, "chat.options.extra_json")
    if extra is not None:
        if not isinstance(extra, dict):
            wrong_value("chat.options.extra_json", "expected a JSON object.")
        only(extra, _EXTRA, "chat.options.extra_json")


def _within(path: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        wrong_value(path, f"expected a number from {low} to {high}, but got {value} instead.")


def _format(text: str) -> str:
    return response_format({"response_format": _parsed(text, "chat.response_format_json")})


def _parsed(text: str, path: str) -> object:
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        wrong_value(path, "it is not JSON.")
