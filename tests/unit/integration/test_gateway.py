"""What the gateway lets through, asks for, counts and records."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from fastchat.common.v1.event_pb2 import TokenKind
from fastchat.common.v1.message_pb2 import ChatMessage, ContentPart, ImagePart, Role, ToolDefinition
from fastchat.control.v1.audit_service_pb2 import AuditDecision
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind
from fastchat.integration.v1.model_service_pb2 import CountTokensRequest, ModelCall, ModelMode, ModelOptions
from kit.errors import PlatformError, Reason
from kit.health import Health
from tests.support.upstream import KEY, Behaviour
from tests.support.upstream_answers import text_for, vector
from tests.unit.integration.world import TENANT, Heard, World, chat, member, read, until

ANSWER = text_for([{"role": "user", "content": "Hello"}], 8)
EMBEDDING = ModelMode.MODEL_MODE_EMBEDDING


def tool(schema: dict[str, Any]) -> ToolDefinition:
    return ToolDefinition(name="forecast", description="Weather", parameters_json=json.dumps(schema))


async def refused(world: World, call: ModelCall) -> PlatformError:
    with pytest.raises(PlatformError) as failed:
        await world.gateway.call(call)
    return failed.value


@pytest.mark.req("PR-001")
async def test_streamed_and_whole_answers_are_the_same(gateway: World) -> None:
    heard = await read(gateway, chat("gpt"))
    result = await gateway.gateway.call(chat("gpt"))
    assert heard.text() == result.choices[0].message.content[0].text == ANSWER
    assert heard.end.usage == result.usage
    assert (result.provider, result.model_resolved, result.alias_resolved) == ("openai", "gpt", "gpt")
    assert (result.finish_reason, result.system_fingerprint) == ("stop", "fp_mock")
    assert not result.usage.estimated
    assert sum(delta.merged for delta in heard.deltas) == 8


async def test_the_first_token_does_not_wait_for_the_second(gateway: World) -> None:
    gateway.upstream.behave("gpt", Behaviour(hang_after=1))
    async with aclosing(gateway.gateway.stream(chat("gpt"))) as stream:
        piece = await asyncio.wait_for(anext(stream), 5)
    assert piece.token.deltas[0].text == ANSWER.split(" ")[0]


@pytest.mark.req("FR-009")
async def test_usage_so_far_is_told_when_asked_for(gateway: World) -> None:
    gateway.upstream.behave("gpt", Behaviour(words=120, delay_ms=1))
    async with aclosing(gateway.gateway.stream(chat("gpt"), usage_every=50)) as stream:
        told = [piece.usage async for piece in stream if piece.HasField("usage")]
    assert [usage.completion_tokens // 50 for usage in told] == [1, 2]
    assert all(usage.estimated and usage.prompt_tokens > 0 for usage in told)


async def test_what_arrives_together_leaves_together(gateway: World) -> None:
    gateway.upstream.behave("gpt", Behaviour(words=400, batch=100))
    heard = await read(gateway, chat("gpt"))
    assert sum(delta.merged for delta in heard.deltas) == 400
    assert heard.messages < 100


async def test_every_option_reaches_the_provider(gateway: World) -> None:
    options = ModelOptions(
        top_p=0.5,
        n=2,
        stop=["END"],
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logprobs=True,
        top_logprobs=3,
        tool_choice_json='{"type": "function", "function": {"name": "forecast"}}',
        parallel_tool_calls=False,
        logit_bias_json='{"50256": -100}',
        user="u1",
        reasoning_effort="low",
        extra_json='{"service_tier": "default", "top_k": 3}',
    )
    call = chat("gpt", max_tokens=9, temperature=0.25, tools=[tool({"type": "object"})], options=options)
    await read(gateway, call)
    body = gateway.upstream.calls[0].body
    assert {key: body[key] for key in body if key not in ("messages", "tools")} == {
        "model": "gpt",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.25,
        "top_p": 0.5,
        "n": 2,
        "stop": ["END"],
        "seed": 7,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logprobs": True,
        "top_logprobs": 3,
        "tool_choice": {"type": "function", "function": {"name": "forecast"}},
        "parallel_tool_calls": False,
        "logit_bias": {"50256": -100},
        "user": "u1",
        "reasoning_effort": "low",
        "service_tier": "default",
        "top_k": 3,
    }
    assert body["tools"][0]["function"]["description"] == "Weather"


async def test_a_picture_reaches_the_provider(gateway: World) -> None:
    picture = ContentPart(image=ImagePart(url="data:image/png;base64,AA==", detail="low"))
    message = ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text="What?"), picture])
    result = await gateway.gateway.call(chat("gpt", messages=[message]))
    assert result.choices[0].message.content[0].text.startswith("[image_url ")


async def test_reasoning_is_a_kind_of_its_own(gateway: World) -> None:
    gateway.upstream.behave("gpt", Behaviour(reasoning="let me think"))
    heard = await read(gateway, chat("gpt"))
    assert heard.text(TokenKind.TOKEN_KIND_REASONING) == "let me think"
    assert heard.end.usage.reasoning_tokens == 3


BAD = [
    ({"messages": []}, Reason.INVALID_ARGUMENT, "messages"),
    ({"max_tokens": 0}, Reason.INVALID_ARGUMENT, "max_tokens"),
    ({"temperature": 3}, Reason.INVALID_ARGUMENT, "temperature"),
    ({"options": ModelOptions(n=0)}, Reason.INVALID_ARGUMENT, "n"),
    ({"options": ModelOptions(top_logprobs=2)}, Reason.INVALID_ARGUMENT, "top_logprobs"),
    ({"options": ModelOptions(tool_choice_json='"auto"')}, Reason.INVALID_ARGUMENT, "tool_choice"),
    ({"options": ModelOptions(extra_json='{"api_base": 1, "model": "x"}')}, Reason.INVALID_ARGUMENT, "model"),
    ({"options": ModelOptions(extra_json='{"modalities": ["audio"]}')}, Reason.UNSUPPORTED_FEATURE, "modalities"),
    ({"options": ModelOptions(extra_json='{"audio": {}}')}, Reason.UNSUPPORTED_FEATURE, "audio"),
    ({"response_format_json": "[]"}, Reason.INVALID_ARGUMENT, "response_format"),
    ({"tools": [ToolDefinition(name="f", parameters_json="{")]}, Reason.INVALID_ARGUMENT,
     "tools[0].function.parameters"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "reason", "field"), BAD)
async def test_bad_requests_name_the_field(gateway: World, told: dict[str, Any], reason: Reason, field: str) -> None:
    error = await refused(gateway, chat("gpt", **told))
    assert (error.reason, error.metadata["field"]) == (reason, field)
    assert gateway.upstream.calls == []


async def test_a_client_cannot_choose_the_target(gateway: World) -> None:
    extra = {"api_base": "http://127.0.0.1:9", "api_key": "x", "custom_llm_provider": "offline", "mock_response": "x"}
    heard = await read(gateway, chat("gpt", options=ModelOptions(extra_json=json.dumps(extra))))
    assert heard.text() == ANSWER
    assert gateway.upstream.calls[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.req("PR-003")
async def test_a_changed_entry_takes_effect_at_once(gateway: World) -> None:
    gateway.model("gpt", litellm={"model": "openai/other"})
    assert (await gateway.gateway.call(chat("gpt"))).model_resolved == "other"
    gateway.push(Resource(kind=ResourceKind.RESOURCE_KIND_MODEL, name="gpt", deleted=True))
    assert (await refused(gateway, chat("gpt"))).reason is Reason.MODEL_NOT_FOUND


async def test_a_tenants_entry_overrides_the_platforms_for_that_tenant(gateway: World) -> None:
    gateway.model("gpt", tenant=TENANT, litellm={"model": "openai/own"})
    assert (await gateway.gateway.call(chat("gpt"))).model_resolved == "own"
    with member("other"):
        call = chat("gpt")
        call.tenant_id = "other"
        assert (await gateway.gateway.call(call)).model_resolved == "gpt"


async def test_another_tenants_alias_is_as_absent_as_an_unknown_one(gateway: World) -> None:
    gateway.model("theirs", tenant="other")
    theirs, absent = await refused(gateway, chat("theirs")), await refused(gateway, chat("absent"))
    assert (theirs.reason, theirs.message.replace("theirs", "absent")) == (absent.reason, absent.message)


async def test_secrets_are_opened_here(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCK_KEY", KEY)
    gateway.model("by-env", litellm={"api_key": "env:MOCK_KEY"})
    gateway.model("sealed", litellm={"api_key": gateway.keyring.seal_text("", KEY)})
    gateway.model("own", tenant=TENANT, litellm={"api_key": gateway.keyring.seal_text(TENANT, KEY)})
    for alias in ("by-env", "sealed", "own"):
        assert (await gateway.gateway.call(chat(alias))).finish_reason == "stop"


async def test_a_missing_environment_variable_is_named(gateway: World) -> None:
    gateway.model("gpt", litellm={"api_key": "env:NOT_SET_ANYWHERE"})
    error = await refused(gateway, chat("gpt"))
    assert error.reason is Reason.UPSTREAM_AUTHENTICATION
    assert "NOT_SET_ANYWHERE" in error.message


@pytest.mark.parametrize(
    "litellm",
    [
        {"api_key": "env:PATH"},
        {"vertex_credentials": "/etc/passwd"},
        {"model": "bedrock/anthropic.claude"},
    ],
)
async def test_a_tenants_entry_cannot_use_the_platforms_credentials(gateway: World, litellm: dict[str, str]) -> None:
    gateway.model("mine", tenant=TENANT, litellm=litellm)
    assert (await refused(gateway, chat("mine"))).reason is Reason.MODEL_POLICY_DENIED


async def test_a_tenants_entry_without_a_key_does_not_get_the_platforms(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    gateway.model("mine", tenant=TENANT, litellm={"api_key": None})
    assert (await refused(gateway, chat("mine"))).reason is Reason.UPSTREAM_AUTHENTICATION
    assert KEY not in gateway.upstream.calls[0].headers["Authorization"]


@pytest.mark.req("PR-004")
async def test_limits_of_the_tenant_hold(gateway: World) -> None:
    gateway.settings(limits={"allowed_models": ["gpt*"], "tool_calling": False, "max_output_tokens": 3})
    assert (await refused(gateway, chat("offline"))).metadata["rule"] == "limits.allowed_models"
    with_tool = chat("gpt", tools=[tool({"type": "object"})])
    assert (await refused(gateway, with_tool)).metadata["rule"] == "limits.tool_calling"
    assert (await gateway.gateway.call(chat("gpt", max_tokens=100))).finish_reason == "length"
    assert [model.alias for model in gateway.gateway.models(TENANT)] == ["gpt"]


async def test_a_fallback_that_is_not_allowed_is_not_used(gateway: World) -> None:
    gateway.settings(limits={"allowed_models": ["gpt"]})
    gateway.model("gpt", fallbacks=["offline"], retries=0)
    gateway.upstream.behave("gpt", Behaviour(status=500))
    assert (await refused(gateway, chat("gpt"))).reason is Reason.UPSTREAM_ERROR


async def test_a_policy_can_forbid_a_model(gateway: World) -> None:
    cedar = '@id("no-gpt") forbid (principal, action == Action::"model.call", resource == Model::"gpt");'
    body = json.dumps({"cedar": cedar, "enabled": True})
    gateway.push(Resource(kind=ResourceKind.RESOURCE_KIND_POLICY, name="own", tenant_id=TENANT, body_json=body))
    error = await refused(gateway, chat("gpt"))
    assert (error.reason, error.metadata["rule"]) == (Reason.MODEL_POLICY_DENIED, "no-gpt")


async def test_a_viewer_may_not_call_models(gateway: World) -> None:
    with member(TENANT, "viewer"):
        assert (await refused(gateway, chat("gpt"))).reason is Reason.MODEL_POLICY_DENIED


@pytest.mark.req("PR-029")
async def test_calls_and_refusals_are_recorded(gateway: World) -> None:
    await read(gateway, chat("gpt"))
    gateway.settings(limits={"allowed_models": []})
    await refused(gateway, chat("gpt"))
    done, denied = gateway.audited
    assert (done.action, done.resource_id, done.outcome, done.tenant_id) == ("model.call", "gpt", "ok", TENANT)
    assert done.decision == AuditDecision.AUDIT_DECISION_ALLOW
    assert list(done.rule_ids) == ["builtin.member"]
    assert len(done.input_hash) == len(done.output_hash) == 64
    assert ANSWER.split(" ")[0] not in str(done)
    assert (denied.decision, denied.outcome) == (AuditDecision.AUDIT_DECISION_DENY, "MODEL_POLICY_DENIED")


async def test_a_cancelled_call_is_closed_and_charged(gateway: World) -> None:
    gateway.model("gpt", litellm={"input_cost_per_token": 0.001, "output_cost_per_token": 0.002})
    gateway.upstream.behave("gpt", Behaviour(hang_after=4))
    heard = Heard()
    task = asyncio.create_task(read(gateway, chat("gpt"), heard))
    await until(lambda: heard.deltas)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gateway.upstream.until(lambda: gateway.upstream.calls[0].disconnected_at is not None)
    (event,) = gateway.audited
    assert event.outcome == "CANCELLED"
    assert event.cost_micros > 0


async def test_prices_come_from_litellms_list_or_the_entry(gateway: World) -> None:
    gateway.model("listed", litellm={"model": "openai/gpt-4o"})
    gateway.model("priced", litellm={"input_cost_per_token": 0.001, "output_cost_per_token": 0.01})
    listed = (await gateway.gateway.call(chat("listed"))).usage
    # two prompt tokens, both from the cache, and eight of the answer: 2 x 1.25 and 8 x 10 dollars a million, rounded
    assert (listed.cost_micros, listed.cost_known) == (83, True)
    assert (await gateway.gateway.call(chat("priced"))).usage.cost_micros == 2 * 1000 + 8 * 10_000
    unknown = (await gateway.gateway.call(chat("gpt"))).usage
    assert (unknown.cost_micros, unknown.cost_known) == (0, False)


async def test_a_provider_that_tells_no_usage_is_estimated(gateway: World) -> None:
    gateway.upstream.behave("gpt", Behaviour(usage="never"))
    usage = (await read(gateway, chat("gpt"))).end.usage
    assert usage.estimated
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 8


async def test_a_prompt_that_does_not_fit_is_refused_here(gateway: World) -> None:
    gateway.model("small", context_window=1000, litellm={"model": "openai/gpt-4o"})
    error = await refused(gateway, chat("small", "word " * 2000))
    assert error.reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert int(error.metadata["prompt_tokens"]) > 2000
    gateway.settings(limits={"max_prompt_tokens": 10})
    assert (await refused(gateway, chat("gpt", "word " * 50))).reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert gateway.upstream.calls == []


@pytest.mark.req("FR-028")
async def test_models_are_listed_with_their_limits(gateway: World) -> None:
    gateway.model("known", litellm={"model": "openai/gpt-4o"})
    gateway.model("broken", litellm={"model": "nobody-knows-this"})
    listed = {model.alias: model for model in gateway.gateway.models(TENANT)}
    assert sorted(listed) == ["gpt", "known", "offline"]
    assert (listed["known"].context_window, listed["known"].provider) == (128_000, "openai")
    assert list(listed["offline"].modes) == [ModelMode.MODEL_MODE_CHAT, EMBEDDING]


@pytest.mark.req("FR-012")
async def test_tokens_are_counted_offline(gateway: World) -> None:
    gateway.model("known", litellm={"model": "openai/gpt-4o"})
    request = CountTokensRequest(tenant_id=TENANT, model_alias="known", messages=chat("known").messages)
    counted = await gateway.gateway.count(request)
    assert counted.tokens == 8
    assert counted.exact
    plain = CountTokensRequest(tenant_id=TENANT, model_alias="gpt", input=["hello world", "hello"])
    counted = await gateway.gateway.count(plain)
    assert counted.tokens == 3
    assert not counted.exact


async def test_embeddings_come_in_order_and_are_counted(gateway: World) -> None:
    gateway.model("vectors", mode="embedding")
    options = ModelOptions(dimensions=4)
    call = ModelCall(
        tenant_id=TENANT, model_alias="vectors", mode=EMBEDDING, input=["two words", "one"], options=options
    )
    result = await gateway.gateway.call(call)
    assert [list(e.values) for e in result.embeddings] == [vector("two words", 4), vector("one", 4)]
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (3, 0)


async def test_a_mode_that_an_alias_does_not_serve_is_refused(gateway: World) -> None:
    call = ModelCall(tenant_id=TENANT, model_alias="gpt", mode=EMBEDDING, input=["x"])
    assert (await refused(gateway, call)).reason is Reason.UNSUPPORTED_FEATURE


async def test_readiness_tells_which_model_is_degraded(gateway: World) -> None:
    gateway.model("gpt", retries=0, cooldown={"failures": 1, "seconds": 60})
    gateway.model("keyless", litellm={"api_key": "env:NOT_SET_ANYWHERE"})
    gateway.upstream.behave("gpt", Behaviour(status=500))
    await refused(gateway, chat("gpt"))
    health = Health()
    gateway.models.report(health)
    states = {state.name: state.ok for state in health.snapshot()}
    assert states == {"model gpt": False, "model keyless": False, "model offline": True}
