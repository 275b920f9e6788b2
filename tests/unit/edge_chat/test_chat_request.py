"""The request surface of chat completions: what is taken, and how everything else is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from edge.openai.chat_request import parse_chat
from fastchat.common.v1 import message_pb2 as pb
from kit.errors import PlatformError, Reason

HI = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


def body(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "messages": [HI], **fields})


def refusal(raw: bytes) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        parse_chat(raw)
    return caught.value


@pytest.mark.req("FR-026")
def test_the_whole_surface_is_taken() -> None:
    asked = parse_chat(
        body(
            stream=True,
            stream_options={"include_usage": True, "include_status": False, "event_envelope": "canonical"},
            thread_id="0b6f",
            max_completion_tokens=7,
            temperature=1,
            top_p=0.5,
            n=2,
            stop=["a", "b"],
            seed=-3,
            presence_penalty=-2,
            frequency_penalty=2.0,
            logit_bias={"50256": -100},
            logprobs=True,
            top_logprobs=4,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"b": 1, "a": 2}}},
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            parallel_tool_calls=False,
            reasoning_effort="low",
            metadata={"k": "v"},
            user="u",
            service_tier="flex",
            prediction={"type": "content", "content": "x"},
            store=False,
            modalities=["text"],
        )
    )
    call, options = asked.call, asked.call.options
    assert (asked.stream, asked.include_usage, asked.include_status, asked.events) == (True, True, False, "envelope")
    assert (asked.thread_id, asked.choices, call.model_alias) == ("0b6f", 2, "m")
    assert (call.max_tokens, call.temperature, options.top_p, options.seed) == (7, 1.0, 0.5, -3)
    assert list(options.stop) == ["a", "b"]
    assert options.logit_bias_json == '{"50256":-100}'
    assert (options.logprobs, options.top_logprobs, options.parallel_tool_calls) == (True, 4, False)
    assert '{"b":1,"a":2}' in call.response_format_json
    assert options.tool_choice_json == '{"type":"function","function":{"name":"get_weather"}}'
    assert call.tools[0].parameters_json == '{"type":"object","properties":{}}'
    assert orjson.loads(options.extra_json) == {
        "service_tier": "flex",
        "prediction": {"type": "content", "content": "x"},
    }
    assert dict(call.metadata) == {"k": "v"}


def test_every_kind_of_message_is_taken() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a.pdf"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": [], "audio": None},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "content": "42", "reasoning_content": "because"},
    ]
    parsed = parse_chat(orjson.dumps({"messages": messages})).call.messages
    assert [message.role for message in parsed] == [
        pb.ROLE_DEVELOPER,
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_TOOL,
        pb.ROLE_ASSISTANT,
    ]
    assert [part.WhichOneof("part") for part in parsed[1].content] == ["text", "image", "audio", "file"]
    assert (parsed[0].plain_text, parsed[3].plain_text) == (False, True)
    assert parsed[2].tool_calls[0].arguments_json == '{"a":1}'
    assert parsed[4].reasoning == "because"


def test_legacy_functions_become_tools() -> None:
    asked = parse_chat(
        body(
            messages=[
                HI,
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "1"},
            ],
            functions=[{"name": "f", "parameters": {"type": "object"}}],
            function_call={"name": "f"},
        )
    )
    assert asked.legacy_functions
    assert asked.call.tools[0].name == "f"
    assert asked.call.options.tool_choice_json == '{"type":"function","function":{"name":"f"}}'
    assert asked.call.options.parallel_tool_calls is False
    assert asked.call.messages[2].tool_call_id == asked.call.messages[1].tool_calls[0].id


USER: dict[str, Any] = {"role": "user"}
PART_CASES = [
    ({**USER, "content": 5}, "messages[0].content"),
    ({**USER, "content": None}, "messages[0].content"),
    ({**USER, "content": []}, "messages[0].content"),
    ({**USER, "content": ["x"]}, "messages[0].content[0]"),
    ({**USER, "content": [{"text": "x"}]}, "messages[0].content[0].type"),
    ({**USER, "content": [{"type": "video"}]}, "messages[0].content[0].type"),
    ({**USER, "content": [{"type": "text"}]}, "messages[0].content[0].text"),
    ({**USER, "content": [{"type": "text", "text": 1}]}, "messages[0].content[0].text"),
    ({**USER, "content": [{"type": "image_url", "image_url": "x"}]}, "messages[0].content[0].image_url"),
    (
        {**USER, "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]},
        "messages[0].content[0].image_url.url",
    ),
    ({**USER, "content": "x", "tool_calls": []}, "messages[0].tool_calls"),
    ({"role": "robot", "content": "x"}, "messages[0].role"),
    ({"content": "x"}, "messages[0].role"),
    ({"role": "assistant"}, "messages[0].content"),
    ({"role": "assistant", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].type"),
    (
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
    ({"role": "function", "content": "x", "name": "f"}, "messages[0].name"),
    ("x", "messages[0]"),
]


@pytest.mark.parametrize(("message", "field"), PART_CASES, ids=[field for _, field in PART_CASES])
def test_a_wrong_message_is_named(message: Any, field: str) -> None:
    error = refusal(body(messages=[message]))
    assert (error.reason, error.metadata["field"]) == (Reason.INVALID_ARGUMENT, field)
    assert field in error.message


FIELD_CASES: list[tuple[dict[str, Any], str]] = [
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"model": 5}, "model"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": True}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    ({"stop": 5}, "stop"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ["a", 1]}, "stop[1]"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream": True, "stream_options": {"event_envelope": "x"}}, "stream_options.event_envelope"),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"tools": {}}, "tools"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": "x"}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
    ({"function_call": "auto"}, "function_call"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"thread_id": ""}, "thread_id"),
    ({"thread_id": 5}, "thread_id"),
    ({"api_base": "http://evil"}, "api_base"),
    ({"mock_response": "x"}, "mock_response"),
]


@pytest.mark.parametrize(("fields", "field"), FIELD_CASES, ids=[str(fields)[:50] for fields, _ in FIELD_CASES])
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str) -> None:
    error = refusal(body(**fields))
    assert (error.reason, error.metadata["field"]) == (Reason.INVALID_ARGUMENT, field)
    assert field in error.message
    assert error.row.http_status == 400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"store": True}, Reason.NOT_IMPLEMENTED),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
            Reason.NOT_IMPLEMENTED,
        ),
        (
            {"messages": [{"role": "user", "content": "see\n\n[Attached files: file-1, file-2]"}]},
            Reason.NOT_IMPLEMENTED,
        ),
        ({"modalities": ["text", "audio"]}, Reason.UNSUPPORTED_FEATURE),
        ({"audio": {"voice": "x", "format": "mp3"}}, Reason.UNSUPPORTED_FEATURE),
        ({"web_search_options": {}}, Reason.UNSUPPORTED_FEATURE),
        ({"moderation": {"model": "x"}}, Reason.UNSUPPORTED_FEATURE),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, Reason.UNSUPPORTED_FEATURE),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, Reason.UNSUPPORTED_FEATURE),
    ],
)
def test_what_cannot_be_done_is_a_clear_400(fields: dict[str, Any], reason: Reason) -> None:
    error = refusal(body(**fields))
    assert (error.reason, error.row.http_status) == (reason, 400)
    assert error.metadata["field"]


@pytest.mark.parametrize("raw", [b"", b"{", b'{"a":1,}', b"[]", b'"x"', b"\xff", b'{"messages": NaN}'])
def test_a_body_that_is_no_json_object_is_malformed(raw: bytes) -> None:
    error = refusal(raw)
    assert error.reason is Reason.MALFORMED_REQUEST
    assert error.row.http_status == 400


def test_nulls_are_absent() -> None:
    names = (
        "temperature",
        "n",
        "stop",
        "tools",
        "tool_choice",
        "metadata",
        "stream",
        "stream_options",
        "store",
        "seed",
    )
    asked = parse_chat(body(**dict.fromkeys(names)))
    assert not asked.stream
    assert not asked.call.options.HasField("n")


@pytest.mark.req("PR-001")
def test_every_field_of_the_official_sdk_is_known() -> None:
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    from edge.openai.chat_request import _KNOWN

    assert set(CompletionCreateParamsBase.__annotations__) <= _KNOWN
