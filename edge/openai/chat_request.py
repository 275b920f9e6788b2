"""The body of POST /v1/chat/completions -> ChatRequest: the whole surface of the official SDK."""

from __future__ import annotations

from dataclasses import dataclass

from edge.openai import options, tools
from edge.openai.fields import (
    Json,
    boolean,
    choice,
    missing,
    not_implemented,
    number,
    obj,
    only,
    optional_string,
    parse_object,
    string,
    unsupported,
    wrong_value,
)
from edge.openai.messages import parse_messages
from fastchat.integration.v1 import model_service_pb2 as pb

_KNOWN = frozenset(
    (
        *("messages", "model", "stream", "stream_options", "store", "metadata", "thread_id", "user"),
        *("temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
        *("max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "response_format", "reasoning_effort"),
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "verbosity", "prediction"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier"),
        *("modalities", "audio", "moderation", "web_search_options"),
    )
)
_STREAM_OPTIONS = ("include_usage", "include_obfuscation", "include_status", "event_envelope")

# legacy and canonical are the original platform's words
ENVELOPES = {"legacy": "named", "canonical": "envelope", "named": "named", "envelope": "envelope", "off": "off"}


@dataclass(slots=True)
class ChatRequest:
    """A parsed request. `call` has everything but its tenant; its alias is "" when none was told."""

    call: pb.ModelCall
    stream: bool = False
    include_usage: bool = False
    # None: not told, settings decide
    include_status: bool | None = None
    # "" (not told) | named | envelope | off
    events: str = ""
    thread_id: str = ""
    # the request used `functions`, so the answer does too
    legacy_functions: bool = False

    @property
    def choices(self) -> int:
        """Choices asked for, at least 1."""
        return self.call.options.n or 1


def parse_chat(body: bytes) -> ChatRequest:
    """Parse and check a chat request; MALFORMED_REQUEST, INVALID_ARGUMENT, UNSUPPORTED_FEATURE or NOT_IMPLEMENTED."""
    source = parse_object(body)
    only(source, _KNOWN)
    if source.get("messages") is None:
        missing("messages")
    call = pb.ModelCall(mode=pb.MODEL_MODE_CHAT, messages=parse_messages(source["messages"]))
    call.model_alias = optional_string(source, "model", longest=256)
    request = ChatRequest(call)
    if len(source) > 1 + ("model" in source):
        _shape(request, source)
        _delivery(request, source)
    return request


def _shape(request: ChatRequest, source: Json) -> None:
    """What shapes the answer."""
    call = request.call
    options.refuse_unsupported(source)
    options.fill_options(call.options, source)
    call.response_format_json = options.response_format(source)
    call.options.extra_json = options.passed_on(source)
    call.metadata.update(options.metadata(source))
    limit = options.max_tokens(source)
    if limit is not None:
        call.max_tokens = limit
    temperature = number(source, "temperature", 0, 2)
    if temperature is not None:
        call.temperature = temperature
    _functions(request, source)


def _functions(request: ChatRequest, source: Json) -> None:
    call = request.call
    if source.get("tools") is not None:
        call.tools.extend(tools.parse_tools(source["tools"]))
    if source.get("functions") is not None:
        if call.tools:
            wrong_value("functions", "set either 'functions' or 'tools', not both.")
        call.tools.extend(tools.parse_functions(source["functions"]))
        request.legacy_functions = True
    defined = list(call.tools)
    if source.get("tool_choice") is not None:
        call.options.tool_choice_json = tools.parse_tool_choice(source["tool_choice"], defined)
    if source.get("function_call") is not None:
        if not request.legacy_functions:
            wrong_value("function_call", "'function_call' is only allowed when 'functions' are specified.")
        call.options.tool_choice_json = tools.parse_function_call(source["function_call"], defined)
    parallel = boolean(source, "parallel_tool_calls")
    if parallel is not None:
        if not defined:
            wrong_value("parallel_tool_calls", "it is only allowed when 'tools' are specified.")
        call.options.parallel_tool_calls = parallel
    elif request.legacy_functions:
        # a message has room for one function_call
        call.options.parallel_tool_calls = False


def _delivery(request: ChatRequest, source: Json) -> None:
    """How and where the answer is delivered and kept."""
    request.stream = bool(boolean(source, "stream"))
    if boolean(source, "store"):
        not_implemented("store", "stored_completions", "Stored completions are not available yet.")
    if source.get("thread_id") is not None:
        request.thread_id = string(source["thread_id"], "thread_id", longest=64, empty=False)
    if source.get("stream_options") is not None:
        _stream_options(request, obj(source["stream_options"], "stream_options"))


def _stream_options(request: ChatRequest, source: Json) -> None:
    path = "stream_options"
    only(source, _STREAM_OPTIONS, path)
    if not request.stream and ("include_usage" in source or "include_obfuscation" in source):
        wrong_value(path, "'stream_options' is only allowed when 'stream' is true.")
    request.include_usage = bool(boolean(source, "include_usage", f"{path}.include_usage"))
    request.include_status = boolean(source, "include_status", f"{path}.include_status")
    if boolean(source, "include_obfuscation", f"{path}.include_obfuscation"):
        unsupported(f"{path}.include_obfuscation", "Stream obfuscation is not supported.")
    envelope = source.get("event_envelope")
    if envelope is not None:
        request.events = ENVELOPES[choice(envelope, f"{path}.event_envelope", ENVELOPES)]
