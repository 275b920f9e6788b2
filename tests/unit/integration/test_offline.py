"""The offline model."""

from __future__ import annotations

import json
import time
from typing import Any

import jsonschema
import pytest

from fastchat.common.v1.event_pb2 import TokenKind
from fastchat.common.v1.message_pb2 import ChatMessage, ContentPart, ImagePart, Role, ToolCall
from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelMode, ModelOptions
from integration.models.offline import answers
from integration.models.offline.schemas import example
from kit.errors import PlatformError, Reason
from tests.unit.integration.test_gateway import refused, tool
from tests.unit.integration.world import TENANT, World, chat, read

pytestmark = pytest.mark.req("PR-002")

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def user(text: str) -> ChatMessage:
    return ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text=text)], plain_text=True)


async def test_it_says_what_it_is(gateway: World) -> None:
    text = (await read(gateway, chat("offline", "Hi there"))).text()
    assert "offline model" in text
    assert "not an AI" in text
    assert text.endswith("You wrote: Hi there")


async def test_the_same_question_gets_the_same_answer_and_costs_nothing(gateway: World) -> None:
    call = chat("offline", "Hi [[words:60]]")
    first, second = await read(gateway, call), await gateway.gateway.call(call)
    assert first.text() == second.choices[0].message.content[0].text
    assert len(first.text().split()) == 60
    assert (first.end.usage.cost_micros, first.end.usage.cost_known) == (0, True)
    assert first.end.usage.completion_tokens == 60


async def test_the_first_word_comes_alone(gateway: World) -> None:
    heard = await read(gateway, chat("offline", "[[words:40]]"))
    assert (heard.deltas[0].text, heard.deltas[0].merged) == ("This", 1)
    assert sum(delta.merged for delta in heard.deltas) == 40


async def test_a_pace_makes_it_word_by_word(gateway: World) -> None:
    began = time.monotonic()
    heard = await read(gateway, chat("offline", "[[words:6 delay_ms:10]]"))
    assert len(heard.deltas) == 6
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("length", range(0, 140, 9))
async def test_it_goes_on_from_any_prefix(gateway: World, length: int) -> None:
    whole = (await read(gateway, chat("offline", "Go on"))).text()
    heard = await read(gateway, chat("offline", "Go on", continue_from=whole[:length]))
    assert whole[:length] + heard.text() == whole


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ('"required"', "Hi"),
        ('{"type": "function", "function": {"name": "forecast"}}', "Hi"),
        ("", "Use forecast please"),
        ("", "Hi [[call:forecast]]"),
    ],
)
async def test_it_calls_a_tool_when_asked_to(gateway: World, choice: str, text: str) -> None:
    call = chat("offline", text, tools=[tool(CITY)], options=ModelOptions(tool_choice_json=choice))
    heard = await read(gateway, call)
    arguments = json.loads(heard.text(TokenKind.TOKEN_KIND_TOOL_ARGUMENTS))
    jsonschema.validate(arguments, CITY)
    assert heard.end.finish_reason == "tool_calls"


async def test_it_answers_once_the_tool_has(gateway: World) -> None:
    asked = ChatMessage(role=Role.ROLE_ASSISTANT, tool_calls=[ToolCall(id="c", name="forecast", arguments_json="{}")])
    told = ChatMessage(role=Role.ROLE_TOOL, tool_call_id="c", content=[ContentPart(text="sunny")])
    messages = [user("Use forecast"), asked, told]
    heard = await read(gateway, chat("offline", messages=messages, tools=[tool(CITY)]))
    assert heard.text().endswith("The tool answered: sunny")


async def test_no_tool_is_called_when_none_may_be(gateway: World) -> None:
    call = chat("offline", "forecast", tools=[tool(CITY)], options=ModelOptions(tool_choice_json='"none"'))
    assert (await read(gateway, call)).end.finish_reason == "stop"


async def test_choices_stop_signs_reasoning_and_pictures(gateway: World) -> None:
    heard = await read(gateway, chat("offline", options=ModelOptions(n=2, stop=["model"], reasoning_effort="low")))
    assert heard.text(choice=1).startswith("(2) ")
    assert heard.text().endswith("offline ")
    assert len(heard.text(TokenKind.TOKEN_KIND_REASONING).split()) == 12
    picture = ContentPart(image=ImagePart(url="data:image/png;base64,AA=="))
    message = ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text="See"), picture])
    assert (await read(gateway, chat("offline", messages=[message]))).text().endswith("See (with 1 image)")


async def test_log_probabilities_are_refused(gateway: World) -> None:
    error = await refused(gateway, chat("offline", options=ModelOptions(logprobs=True)))
    assert (error.reason, error.metadata["field"]) == (Reason.UNSUPPORTED_FEATURE, "logprobs")


SCHEMAS: list[dict[str, Any]] = [
    CITY,
    {"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 2},
    {"anyOf": [{"type": "null"}, {"type": "string"}]},
    {"$defs": {"a": {"enum": ["x"]}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}},
    {"type": ["string", "null"], "minLength": 40, "maxLength": 50},
    {"allOf": [CITY, {"properties": {"days": {"type": "number", "exclusiveMinimum": 2}}}]},
    {"type": "string", "format": "date-time"},
    {"type": "number", "maximum": -4},
    {"const": 5},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_examples_fit_their_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema), schema)


def test_a_schema_that_holds_itself_ends() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert example(schema)


def test_pieces_joined_are_the_text() -> None:
    for text in ("", " ", "one", " one  two\n", "one\u2028two "):
        assert "".join(answers.pieces(text)) == text


@pytest.mark.parametrize("size", [None, 64, 128, 256])
async def test_embeddings_are_unit_vectors_that_know_likeness(gateway: World, size: int | None) -> None:
    options = ModelOptions(dimensions=size) if size else ModelOptions()
    texts = ["a cat sits on the mat", "a kitten sits on the rug", "quarterly tax report"]
    call = ModelCall(
        tenant_id=TENANT, model_alias="offline", mode=ModelMode.MODEL_MODE_EMBEDDING, input=texts, options=options
    )
    one, near, far = [list(e.values) for e in (await gateway.gateway.call(call)).embeddings]
    assert len(one) == (size or 256)
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-4)
    assert sum(map(float.__mul__, one, near)) > sum(map(float.__mul__, one, far))


async def test_other_dimensions_are_refused(gateway: World) -> None:
    call = ModelCall(
        tenant_id=TENANT,
        model_alias="offline",
        mode=ModelMode.MODEL_MODE_EMBEDDING,
        input=["x"],
        options=ModelOptions(dimensions=100),
    )
    with pytest.raises(PlatformError) as failed:
        await gateway.gateway.call(call)
    assert failed.value.reason is Reason.UNSUPPORTED_FEATURE
