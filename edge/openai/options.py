"""Sampling and shaping of a chat request -> ModelOptions and its neighbours in ModelCall."""

from __future__ import annotations

from edge.openai.fields import (
    Json,
    array,
    boolean,
    choice,
    dumps,
    function_name,
    integer,
    missing,
    number,
    obj,
    only,
    optional_string,
    string,
    unsupported,
    wrong_type,
    wrong_value,
)
from fastchat.integration.v1 import model_service_pb2 as pb

MOST_TOKENS = 2**31 - 1
_MOST_METADATA = 16

# Fields that the model call has no name for; they reach the provider as they are.
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


def fill_options(options: pb.ModelOptions, body: Json) -> None:
    """Copy what the body tells about sampling; fields that are absent or null stay unset."""
    for name, low, high in (("top_p", 0, 1), ("presence_penalty", -2, 2), ("frequency_penalty", -2, 2)):
        value = number(body, name, low, high)
        if value is not None:
            setattr(options, name, value)
    for name, low, high in (("n", 1, 128), ("seed", -(2**63), 2**63 - 1)):
        whole = integer(body, name, low, high)
        if whole is not None:
            setattr(options, name, whole)
    _logprobs(options, body)
    options.reasoning_effort = optional_string(body, "reasoning_effort", longest=32)
    options.user = optional_string(body, "user", longest=512)
    if body.get("stop") is not None:
        options.stop.extend(_stop(body["stop"]))
    if body.get("logit_bias") is not None:
        options.logit_bias_json = _logit_bias(body["logit_bias"])


def max_tokens(body: Json) -> int | None:
    """`max_completion_tokens`, or its older spelling `max_tokens`; both at once are refused."""
    newer = integer(body, "max_completion_tokens", 1, MOST_TOKENS)
    older = integer(body, "max_tokens", 1, MOST_TOKENS)
    if newer is not None and older is not None:
        wrong_value("max_tokens", "set either 'max_tokens' or 'max_completion_tokens', not both.")
    return older if newer is None else newer


def response_format(body: Json) -> str:
    """`response_format` -> JSON text; "" for plain text."""
    value = body.get("response_format")
    if value is None:
        return ""
    path = "response_format"
    source = obj(value, path)
    if "type" not in source:
        missing(f"{path}.type")
    kind = choice(source["type"], f"{path}.type", ("text", "json_object", "json_schema"))
    if kind == "json_schema":
        only(source, ("type", "json_schema"), path)
        _json_schema(source.get("json_schema"), f"{path}.json_schema")
    else:
        only(source, ("type",), path)
    return "" if kind == "text" else dumps(source)


def metadata(body: Json) -> dict[str, str]:
    """`metadata`: at most 16 pairs, keys up to 64 and values up to 512 characters."""
    value = body.get("metadata")
    if value is None:
        return {}
    pairs = obj(value, "metadata")
    if len(pairs) > _MOST_METADATA:
        wrong_value("metadata", f"expected at most {_MOST_METADATA} pairs, but got {len(pairs)} instead.")
    for name, item in pairs.items():
        if len(name) > 64:
            wrong_value("metadata", "a key may have 64 characters.")
        string(item, f"metadata.{name}", longest=512)
    return pairs


def passed_on(body: Json) -> str:
    """Fields passed on to the provider as they are -> JSON object text; "" if there are none."""
    taken: Json = {}
    for name in ("prompt_cache_key", "safety_identifier"):
        if body.get(name) is not None:
            taken[name] = string(body[name], name, longest=1024)
    for name, allowed in (
        ("service_tier", _TIERS),
        ("verbosity", ("low", "medium", "high")),
        ("prompt_cache_retention", ("in_memory", "in-memory", "24h")),
    ):
        if body.get(name) is not None:
            taken[name] = choice(body[name], name, allowed)
    if body.get("prediction") is not None:
        taken["prediction"] = _prediction(body["prediction"])
    if body.get("prompt_cache_options") is not None:
        taken["prompt_cache_options"] = _cache_options(body["prompt_cache_options"])
    return dumps(taken) if taken else ""


def refuse_unsupported(body: Json) -> None:
    """400 for what the field's names allow and this gateway cannot carry."""
    modalities = body.get("modalities")
    if modalities is not None:
        for index, item in enumerate(array(modalities, "modalities")):
            if choice(item, f"modalities[{index}]", ("text", "audio")) == "audio":
                unsupported("modalities", "Audio answers are not supported.")
    for name, what in (
        ("audio", "Audio answers are"),
        ("moderation", "Moderated completions are"),
        ("web_search_options", "The provider's own web search is"),
    ):
        if body.get(name) is not None:
            unsupported(name, f"{what} not supported.")


def _logprobs(options: pb.ModelOptions, body: Json) -> None:
    logprobs = boolean(body, "logprobs")
    top = integer(body, "top_logprobs", 0, 20)
    if logprobs is not None:
        options.logprobs = logprobs
    if top is not None:
        if not logprobs:
            wrong_value("top_logprobs", "'logprobs' must be true when 'top_logprobs' is set.")
        options.top_logprobs = top


def _stop(value: object) -> list[str]:
    if type(value) is str:
        return [string(value, "stop", empty=False)]
    if type(value) is not list:
        wrong_type("stop", "a string or an array of strings", value)
    return [string(item, f"stop[{i}]", empty=False) for i, item in enumerate(array(value, "stop", most=4))]


def _logit_bias(value: object) -> str:
    bias = obj(value, "logit_bias")
    for token in bias:
        if not token.isdecimal():
            wrong_value("logit_bias", f"expected token ids as keys, but got '{token[:32]}' instead.")
        if number(bias, token, -100, 100, f"logit_bias.{token}") is None:
            wrong_type(f"logit_bias.{token}", "a number", None)
    return dumps(bias) if bias else ""


def _json_schema(value: object, path: str) -> None:
    if value is None:
        missing(path)
    schema = obj(value, path)
    only(schema, ("name", "description", "schema", "strict"), path)
    if "name" not in schema:
        missing(f"{path}.name")
    function_name(schema["name"], f"{path}.name")
    optional_string(schema, "description", f"{path}.description")
    boolean(schema, "strict", f"{path}.strict")
    if schema.get("schema") is not None:
        obj(schema["schema"], f"{path}.schema")


def _prediction(value: object) -> Json:
    source = obj(value, "prediction")
    only(source, ("type", "content"), "prediction")
    choice(source.get("type"), "prediction.type", ("content",))
    content = source.get("content")
    if type(content) is str:
        return source
    if type(content) is not list:
        wrong_type("prediction.content", "a string or an array of content parts", content)
    for index, item in enumerate(content):
        path = f"prediction.content[{index}]"
        part = obj(item, path)
        only(part, ("type", "text"), path)
        choice(part.get("type"), f"{path}.type", ("text",))
        string(part.get("text"), f"{path}.text")
    return source


def _cache_options(value: object) -> Json:
    source = obj(value, "prompt_cache_options")
    only(source, ("mode", "ttl"), "prompt_cache_options")
    if source.get("mode") is not None:
        choice(source["mode"], "prompt_cache_options.mode", ("implicit", "explicit"))
    if source.get("ttl") is not None:
        choice(source["ttl"], "prompt_cache_options.ttl", ("30m",))
    return source
