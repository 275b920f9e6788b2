"""A call's options as OpenAI's parameters, checked for shape and range. What a provider can do is checked later."""

from __future__ import annotations

from typing import Any

import orjson

from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelOptions
from integration.models.messages import json_object, to_tools
from integration.models.port import Json
from kit.errors import PlatformError, Reason

_RANGES: dict[str, tuple[float, float]] = {
    "top_p": (0, 1),
    "n": (1, 128),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "top_logprobs": (0, 20),
}
_PLAIN = ("seed", "logprobs", "parallel_tool_calls")

# Further parameters of chat completions that LiteLLM translates for every provider that has them.
TRANSLATED = frozenset(
    {
        "prediction",
        "web_search_options",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "store",
        "verbosity",
        "thinking",
        "modalities",
    }
)
# What a client may never set: it would choose another target, or get what we cannot carry.
_RESERVED = frozenset({"model", "messages", "stream", "stream_options", "input", "metadata"})
_NOT_CARRIED = {"audio": "audio output", "functions": "functions", "function_call": "functions"}


def to_params(call: ModelCall) -> Json:
    """OpenAI's parameters of a chat call, without model, messages and stream."""
    options = call.options
    params = _numbers(call, options)
    for name in _PLAIN:
        if options.HasField(name):  # type: ignore[arg-type]  # the stub lists the names one by one
            params[name] = getattr(options, name)
    if options.stop:
        params["stop"] = _stop(options)
    for name in ("reasoning_effort", "user"):
        if getattr(options, name):
            params[name] = getattr(options, name)
    params.update(_structured(call, options))
    if options.top_logprobs and not options.logprobs:
        raise PlatformError.invalid("top_logprobs", "top_logprobs needs logprobs.")
    return params


def _structured(call: ModelCall, options: ModelOptions) -> Json:
    """Parameters that travel as JSON text."""
    params: Json = {}
    if options.logit_bias_json:
        params["logit_bias"] = json_object(options.logit_bias_json, "logit_bias")
    if call.response_format_json:
        params["response_format"] = _response_format(call.response_format_json)
    if call.tools:
        params["tools"] = to_tools(call.tools)
    if options.tool_choice_json:
        params["tool_choice"] = _tool_choice(options.tool_choice_json, bool(call.tools))
    return params


def _numbers(call: ModelCall, options: ModelOptions) -> Json:
    params: Json = {}
    if call.HasField("max_tokens"):
        params["max_tokens"] = call.max_tokens
        if call.max_tokens < 1:
            raise PlatformError.invalid("max_tokens", "max_tokens must be at least 1.")
    if call.HasField("temperature"):
        params["temperature"] = _ranged("temperature", call.temperature, 0, 2)
    for name, (low, high) in _RANGES.items():
        if options.HasField(name):  # type: ignore[arg-type]  # the stub lists the names one by one
            params[name] = _ranged(name, getattr(options, name), low, high)
    if params.get("n") == 1:
        del params["n"]
    return params


def _ranged(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise PlatformError.invalid(name, f"{name} must lie between {low} and {high}.")
    return value


def _stop(options: ModelOptions) -> list[str]:
    if len(options.stop) > 4:
        raise PlatformError.invalid("stop", "At most 4 stop sequences.")
    return list(options.stop)


def _response_format(text: str) -> Json:
    shape = json_object(text, "response_format")
    kind = shape.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise PlatformError.invalid("response_format.type", "Must be text, json_object or json_schema.")
    if kind == "json_schema" and not isinstance(shape.get("json_schema"), dict):
        raise PlatformError.invalid("response_format.json_schema", "A JSON schema is missing.")
    return shape


def _tool_choice(text: str, tools: bool) -> Any:
    try:
        choice = orjson.loads(text)
    except orjson.JSONDecodeError:
        choice = None
    if not isinstance(choice, str | dict):
        raise PlatformError.invalid("tool_choice", "tool_choice must be a string or an object.")
    if isinstance(choice, dict) and choice.get("type") != "function":
        message = "Only a choice of one function is understood."
        raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, field="tool_choice", feature="tool_choice")
    if not tools and choice != "none":
        raise PlatformError.invalid("tool_choice", "tool_choice needs tools.")
    return choice


def split_extra(call: ModelCall) -> tuple[Json, Json]:
    """Every other field of the request: (those that LiteLLM translates, those that only OpenAI's wire can carry)."""
    if not call.options.extra_json:
        return {}, {}
    told = json_object(call.options.extra_json, "extra_json")
    for name, value in told.items():
        _refuse(name, value)
    translated = {name: value for name, value in told.items() if name in TRANSLATED}
    return translated, {name: value for name, value in told.items() if name not in TRANSLATED}


def _refuse(name: str, value: object) -> None:
    if name in _RESERVED:
        raise PlatformError.invalid(name, f"{name} cannot be set here.")
    spoken = name == "modalities" and value != ["text"]
    feature = "audio output" if spoken else _NOT_CARRIED.get(name)
    if feature:
        message = f"{name} is not supported."
        raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, field=name, feature=feature)


def unsupported(field: str, provider: str, model: str) -> PlatformError:
    """The provider cannot do what a parameter asks."""
    message = f"{provider}/{model} does not support {field}."
    return PlatformError(Reason.UNSUPPORTED_FEATURE, message, field=field, feature=field, provider=provider)
