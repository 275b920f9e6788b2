"""Request bodies for the OpenAPI document. Bodies are parsed by edge.openai, not by model classes."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _body(schema: Schema, *, required: bool = True) -> Schema:
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def _object(properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def _number(low: float, high: float) -> Schema:
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


_STRING: Schema = {"type": ["string", "null"]}
_BOOLEAN: Schema = {"type": ["boolean", "null"]}
_OBJECT: Schema = {"type": ["object", "null"]}
_TOKENS: Schema = {"type": ["integer", "null"], "minimum": 1}

_MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
        "content": {
            "description": "Text, or parts: text, image_url, input_audio, file (by file_data), refusal.",
            "type": ["string", "array", "null"],
        },
        "name": {"type": "string"},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": {"type": "string"},
    },
}

_STREAM_OPTIONS: Schema = {
    **_object(
        {
            "include_usage": _BOOLEAN,
            "include_obfuscation": {"enum": [False, None]},
            "include_status": {**_BOOLEAN, "description": "Fast-Chat: send status frames (default true)."},
            "event_envelope": {
                "enum": ["legacy", "canonical", None],
                "description": "Fast-Chat: named frames between chunks, or envelopes in their place.",
            },
        }
    ),
    "type": ["object", "null"],
}

CHAT_BODY = _body(
    _object(
        {
            "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
            "model": {**_STRING, "description": "Model alias; the tenant's default model when absent."},
            "stream": _BOOLEAN,
            "stream_options": _STREAM_OPTIONS,
            "thread_id": {**_STRING, "description": "Fast-Chat: thread to continue."},
            "max_completion_tokens": _TOKENS,
            "max_tokens": {**_TOKENS, "deprecated": True},
            "temperature": _number(0, 2),
            "top_p": _number(0, 1),
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
            "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}, "maxItems": 4},
            "seed": {"type": ["integer", "null"]},
            "presence_penalty": _number(-2, 2),
            "frequency_penalty": _number(-2, 2),
            "logit_bias": _OBJECT,
            "logprobs": _BOOLEAN,
            "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
            "response_format": _OBJECT,
            "tools": {"type": ["array", "null"], "items": {"type": "object"}, "maxItems": 128},
            "tool_choice": {"type": ["string", "object", "null"]},
            "parallel_tool_calls": _BOOLEAN,
            "functions": {"type": ["array", "null"], "items": {"type": "object"}, "deprecated": True},
            "function_call": {"type": ["string", "object", "null"], "deprecated": True},
            "reasoning_effort": _STRING,
            "verbosity": {"enum": ["low", "medium", "high", None]},
            "prediction": _OBJECT,
            "metadata": _OBJECT,
            "store": {"enum": [False, None], "description": "Stored completions are not available yet."},
            "service_tier": _STRING,
            "prompt_cache_key": _STRING,
            "prompt_cache_options": _OBJECT,
            "prompt_cache_retention": _STRING,
            "safety_identifier": _STRING,
            "user": _STRING,
            "modalities": {"type": ["array", "null"], "items": {"enum": ["text"]}},
        },
        ("messages",),
    )
)

EMBEDDINGS_BODY = _body(
    _object(
        {
            "input": {"type": ["string", "array"], "items": {"type": "string"}, "minItems": 1, "maxItems": 2048},
            "model": {"type": "string"},
            "dimensions": {"type": ["integer", "null"], "minimum": 1},
            "encoding_format": {"enum": ["float", "base64", None]},
            "user": _STRING,
        },
        ("input", "model"),
    )
)

THREAD_CREATE_BODY = _body(_object({"user_id": _STRING, "title": _STRING}), required=False)
THREAD_UPDATE_BODY = _body(_object({"title": {"type": "string"}, "is_pinned": {"type": "boolean"}}))
