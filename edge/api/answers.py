"""Answers of the OpenAI-shaped and thread routes for the OpenAPI document; what renders them is in edge.openai."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list_of(name: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _is(text: str) -> Schema:
    return {"const": text}


_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNTS: Schema = {"type": "object", "additionalProperties": _COUNT}

SCHEMAS: dict[str, Schema] = {
    "Usage": _object(
        {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
        {"prompt_tokens_details": _COUNTS, "completion_tokens_details": _COUNTS},
    ),
    "ToolCall": _object(
        {"id": _TEXT, "type": _is("function"), "function": _object({"name": _TEXT, "arguments": _TEXT})}
    ),
    "ChatChoice": _object(
        {
            "index": _COUNT,
            "message": _object(
                {"role": _is("assistant"), "content": _TEXT_OR_NULL, "refusal": _TEXT_OR_NULL},
                {
                    "annotations": {"type": "array"},
                    "reasoning_content": _TEXT,
                    "tool_calls": _list_of("ToolCall"),
                    "function_call": {"type": "object"},
                },
            ),
            "logprobs": {"type": ["object", "null"]},
            "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter", "function_call"]},
        }
    ),
    "ChatCompletion": _object(
        {
            "id": _TEXT,
            "object": _is("chat.completion"),
            "created": _COUNT,
            "model": _TEXT,
            "choices": _list_of("ChatChoice"),
            "usage": {"$ref": "#/components/schemas/Usage"},
        },
        {"system_fingerprint": _TEXT_OR_NULL},
    ),
    "Model": _object(
        {"id": _TEXT, "object": _is("model"), "created": _COUNT, "owned_by": _TEXT},
        {
            "modes": {"type": "array", "items": {"enum": ["chat", "responses", "embedding"]}},
            "context_window": _COUNT_OR_NULL,
            "max_output_tokens": _COUNT_OR_NULL,
        },
    ),
    "ModelList": _object({"object": _is("list"), "data": _list_of("Model")}),
    "EmbeddingList": _object(
        {
            "object": _is("list"),
            "data": {
                "type": "array",
                "items": _object(
                    {
                        "object": _is("embedding"),
                        "index": _COUNT,
                        "embedding": {
                            "description": "Floats, or base64 of little-endian 32-bit floats.",
                            "type": ["array", "string"],
                            "items": {"type": "number"},
                        },
                    }
                ),
            },
            "model": _TEXT,
            "usage": _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT}),
        }
    ),
    "Thread": _object(
        {
            "id": _TEXT,
            "user_id": _TEXT,
            "title": _TEXT_OR_NULL,
            "is_pinned": {"type": "boolean"},
            "message_count": _COUNT,
            "last_message_preview": _TEXT_OR_NULL,
            "active_run_id": _TEXT_OR_NULL,
            "created_at": _TIME,
            "updated_at": _TIME,
        }
    ),
    "Message": _object(
        {
            "id": _TEXT,
            "parent_id": _TEXT_OR_NULL,
            "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"type": ["string", "array", "null"]},
            "created_at": _TIME,
        },
        {
            "tool_calls": _list_of("ToolCall"),
            "name": _TEXT,
            "tool_call_id": _TEXT,
            "refusal": _TEXT,
            "reasoning_content": _TEXT,
            "run_id": _TEXT,
        },
    ),
    "Run": _object(
        {
            "id": _TEXT,
            "object": _is("run"),
            "thread_id": _TEXT_OR_NULL,
            "status": _TEXT,
            "model": _TEXT,
            "graph": _TEXT,
            "public_id": _TEXT_OR_NULL,
            "usage": {"anyOf": [{"$ref": "#/components/schemas/Usage"}, {"type": "null"}]},
            "created_at": _TIME,
            "ended_at": {"type": ["string", "null"], "format": "date-time"},
        }
    ),
    "ThreadDeleted": _object({"id": _TEXT, "object": _is("thread.deleted"), "deleted": {"const": True}}),
}

_REF = {name: {"$ref": f"#/components/schemas/{name}"} for name in SCHEMAS}
_STREAM = "text/event-stream"
_EVENTS: Schema = {"type": "string", "description": "Server-sent events; ends with `data: [DONE]`."}
_ENVELOPES: Schema = {"type": "string", "description": "Server-sent events: envelopes, or the run's chunks."}

CONTENT: dict[tuple[str, str], tuple[str, dict[str, Schema]]] = {
    ("post", "/v1/chat/completions"): ("200", {"application/json": _REF["ChatCompletion"], _STREAM: _EVENTS}),
    ("get", "/v1/models"): ("200", {"application/json": _REF["ModelList"]}),
    ("get", "/v1/models/{model}"): ("200", {"application/json": _REF["Model"]}),
    ("post", "/v1/embeddings"): ("200", {"application/json": _REF["EmbeddingList"]}),
    ("get", "/v1/threads"): ("200", {"application/json": _list_of("Thread")}),
    ("post", "/v1/threads"): ("201", {"application/json": _REF["Thread"]}),
    ("get", "/v1/threads/{thread_id}"): ("200", {"application/json": _REF["Thread"]}),
    ("patch", "/v1/threads/{thread_id}"): ("200", {"application/json": _REF["Thread"]}),
    ("delete", "/v1/threads/{thread_id}"): ("200", {"application/json": _REF["ThreadDeleted"]}),
    ("get", "/v1/threads/{thread_id}/messages"): ("200", {"application/json": _list_of("Message")}),
    ("get", "/v1/runs/{run_id}"): ("200", {"application/json": _REF["Run"]}),
    ("post", "/v1/runs/{run_id}/cancel"): ("200", {"application/json": _REF["Run"]}),
    ("get", "/v1/runs/{run_id}/events"): ("200", {_STREAM: _ENVELOPES}),
    ("get", "/metrics"): ("200", {"text/plain": _TEXT}),
}
"""(method, path) -> status of success and what it carries, for routes that render by themselves."""


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _header(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


_LIMIT = _query("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "Entries a page.")
_AFTER = _query("after", _TEXT, "From the `Link` header of the page before.")
_EVENTS_MODE = _header("X-Fastchat-Events", {"enum": ["off", "named", "envelope"]}, "How status and usage are told.")

PARAMETERS: dict[tuple[str, str], list[Schema]] = {
    ("post", "/v1/chat/completions"): [_EVENTS_MODE],
    ("get", "/v1/threads"): [_LIMIT, _AFTER, _query("user_id", _TEXT, "Only threads of this end user.")],
    ("get", "/v1/threads/{thread_id}/messages"): [_LIMIT, _AFTER],
    ("get", "/v1/runs/{run_id}/events"): [
        _query("starting_after", _COUNT, "Number of the last frame that the reader has."),
        _header("Last-Event-ID", _TEXT, "The same, as EventSource sends it."),
        _header("X-Fastchat-Events", {"enum": ["named", "envelope"]}, "Chunks or envelopes."),
    ],
}
"""(method, path) -> query parameters and headers that the route reads by itself."""
