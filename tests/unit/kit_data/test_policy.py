"""Policy decisions."""

import json
from typing import Any

import pytest

from control.policy.bundles import built_in_text
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from kit.errors import PlatformError, Reason
from kit.policy import BROKEN, NO_BUNDLE, PolicyEngine
from kit.principal import service_principal
from kit.settings import SettingsCache

pytestmark = pytest.mark.req("PR-027")

FORBID_GPT = '@id("no-gpt") forbid (principal, action == Action::"model.call", resource == Model::"gpt");'


def bundle(name: str, cedar: str, tenant: str = "", *, enabled: bool = True) -> Resource:
    return Resource(
        kind=ResourceKind.RESOURCE_KIND_POLICY,
        name=name,
        tenant_id=tenant,
        body_json=json.dumps({"cedar": cedar, "enabled": enabled}),
    )


def engine(*bundles: Resource, built_in: bool = True) -> tuple[PolicyEngine, SettingsCache]:
    cache = SettingsCache()
    made = PolicyEngine(cache)
    told = [bundle("builtin", built_in_text()), *bundles] if built_in else bundles
    cache.apply(WatchSettingsResponse(resources=told, revision=1, snapshot=True))
    return made, cache


def somebody(*roles: str, tenant: str = "t", scopes: tuple[str, ...] = ("chat",)) -> Principal:
    return Principal(tenant_id=tenant, subject="key:1", roles=roles, scopes=scopes)


def test_roles_may_what_the_built_in_bundle_says() -> None:
    policy, _ = engine()
    allowed = policy.decide(somebody("member"), "model.call", "Model", "gpt")
    assert (allowed.allow, allowed.rule_ids) == (True, ("builtin.member",))
    assert not policy.decide(somebody("viewer"), "model.call", "Model", "gpt").allow
    assert not policy.decide(somebody(), "model.list", "Model", "").allow
    assert policy.decide(somebody("admin"), "admin.api_key.write", "ApiKey", "x").allow


@pytest.mark.req("PR-030")
def test_another_tenants_resource_is_forbidden_but_to_the_platform() -> None:
    policy, _ = engine()
    for who, expected in ((somebody("admin"), False), (service_principal("edge"), True)):
        decision = policy.decide(who, "thread.read", "Thread", "1", resource_tenant="other")
        assert decision.allow is expected


@pytest.mark.req("PR-004")
def test_a_tenants_bundle_forbids_for_its_own_only() -> None:
    policy, _ = engine(bundle("mine", FORBID_GPT, "t"))
    denied = policy.decide(somebody("admin"), "model.call", "Model", "gpt")
    assert (denied.allow, denied.rule_ids) == (False, ("no-gpt",))
    assert policy.decide(somebody("admin"), "model.call", "Model", "other").allow
    assert policy.decide(somebody("admin", tenant="u"), "model.call", "Model", "gpt").allow


def test_what_a_tenants_bundle_permits_does_not_widen_roles() -> None:
    policy, _ = engine(bundle("mine", "permit (principal, action, resource);", "t"))
    assert not policy.decide(somebody("viewer"), "admin.tenant.write", "Tenant", "t").allow


def test_context_and_attributes_can_decide() -> None:
    rule = '@id("small") forbid (principal, action, resource) when { context has tokens && context.tokens > 10 };'
    policy, _ = engine(bundle("mine", rule, "t"))
    for tokens, expected in ((10, True), (11, False)):
        assert policy.decide(somebody("member"), "chat.create", "Chat", "", {"tokens": tokens}).allow is expected


@pytest.mark.parametrize(
    ("bundles", "built_in", "rule"),
    [
        ((), False, NO_BUNDLE),
        ((bundle("bad", "permit (", ""),), True, BROKEN),
        ((bundle("bad", "forbid (principal, action, resource) when { context.missing };", "t"),), True, BROKEN),
    ],
)
def test_what_cannot_be_decided_is_denied(bundles: tuple[Resource, ...], built_in: bool, rule: str) -> None:
    policy, _ = engine(*bundles, built_in=built_in)
    decision = policy.decide(somebody("admin"), "chat.create", "Chat", "")
    assert (decision.allow, decision.rule_ids) == (False, (rule,))


def test_a_broken_bundle_of_one_tenant_is_no_others_trouble() -> None:
    policy, _ = engine(bundle("bad", "permit (", "t"))
    assert not policy.decide(somebody("admin"), "chat.create", "Chat", "").allow
    assert policy.decide(somebody("admin", tenant="u"), "chat.create", "Chat", "").allow


def test_a_disabled_bundle_does_not_count() -> None:
    policy, _ = engine(bundle("mine", FORBID_GPT, "t", enabled=False))
    assert policy.decide(somebody("member"), "model.call", "Model", "gpt").allow


def test_a_change_decides_the_next_question() -> None:
    policy, cache = engine()
    assert policy.decide(somebody("member"), "model.call", "Model", "gpt").allow
    cache.apply(WatchSettingsResponse(resources=[bundle("mine", FORBID_GPT, "t")], revision=2))
    assert not policy.decide(somebody("member"), "model.call", "Model", "gpt").allow


@pytest.mark.parametrize(
    ("action", "reason", "metadata"),
    [
        ("model.call", Reason.MODEL_POLICY_DENIED, {"rule": "no-gpt", "model": "gpt"}),
        ("chat.create", Reason.POLICY_DENIED, {"rule": "default-deny", "action": "chat.create"}),
    ],
)
def test_a_denial_names_its_rule(action: str, reason: Reason, metadata: dict[str, Any]) -> None:
    policy, _ = engine(bundle("mine", FORBID_GPT, "t"))
    who = somebody("member") if action == "model.call" else somebody()
    with pytest.raises(PlatformError) as caught:
        policy.require(who, action, "Model", "gpt")
    assert (caught.value.reason, caught.value.metadata) == (reason, metadata)


def test_ids_of_any_text_are_decided_on() -> None:
    policy, _ = engine()
    for name in ('a"b', "line\nbreak", "ä", ""):
        assert policy.decide(somebody("member"), "model.call", "Model", name).allow
