"""PolicyService, on both engines."""

from __future__ import annotations

import pytest

from fastchat.control.v1 import policy_service_pb2 as pb
from fastchat.control.v1 import tenant_service_pb2 as tenants_pb
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.errors import PlatformError, Reason
from kit.policy import PolicyEngine
from kit.settings import SettingsCache, watch_settings
from tests.unit.control.running import Control, admin_of, refused, watching
from tests.unit.control.waiting import until

_NO_MINI = '@id("no-mini") forbid (principal, action == Action::"model.call", resource == Model::"mini");'
_FREEZE = '@id("freeze") forbid (principal, action == Action::"admin.tenant.write", resource);'


def _policy(name: str = "mine", tenant_id: str = "", cedar: str = _NO_MINI, **more: object) -> pb.Policy:
    told = {"enabled": True, **more}
    return pb.Policy(name=name, tenant_id=tenant_id, cedar=cedar, **told)  # type: ignore[arg-type]


async def test_a_bundle_is_made_read_changed_and_removed(control: Control) -> None:
    policies = control.acting().policies
    made = (await policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy(description="why")))).policy
    assert (await policies.GetPolicy(pb.GetPolicyRequest(name="mine"))).policy == made
    with refused(Reason.ALREADY_EXISTS, resource="policy", id="mine"):
        await policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy()))
    off = await policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=_policy(enabled=False, etag=made.etag)))
    assert not off.policy.enabled
    with refused(Reason.ETAG_MISMATCH, etag=off.policy.etag):
        await policies.DeletePolicy(pb.DeletePolicyRequest(name="mine", etag=made.etag))
    await policies.DeletePolicy(pb.DeletePolicyRequest(name="mine", etag=off.policy.etag))
    with refused(Reason.NOT_FOUND, resource="policy"):
        await policies.GetPolicy(pb.GetPolicyRequest(name="mine"))


async def test_the_builtin_bundle_is_first_and_read_only(control: Control) -> None:
    policies = control.acting().policies
    await policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy("a")))
    await policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy("z")))
    found, token = [], ""
    while True:
        page = await policies.ListPolicies(pb.ListPoliciesRequest(page_size=1, page_token=token))
        found += [(policy.name, policy.built_in) for policy in page.policies]
        token = page.next_page_token
        if not token:
            break
    assert found == [("builtin", True), ("a", False), ("z", False)]
    with refused(Reason.CONFLICT):
        await policies.DeletePolicy(pb.DeletePolicyRequest(name="builtin"))
    with refused(Reason.CONFLICT):
        await policies.UpdatePolicy(pb.UpdatePolicyRequest(policy=_policy("builtin")))
    with refused(Reason.ALREADY_EXISTS):
        await policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy("builtin", "default")))


async def test_cedar_that_does_not_parse_is_refused_with_its_line(control: Control) -> None:
    broken = f"{_NO_MINI}\n\nforbid (principal action, resource);"
    with refused(Reason.INVALID_ARGUMENT, field="cedar", line="3"):
        await control.acting().policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy(cedar=broken)))


@pytest.mark.req("PR-027")
async def test_a_bundle_counts_at_once_and_can_be_taken_back(control: Control) -> None:
    acme = await control.tenant("acme")
    renamed = tenants_pb.UpdateTenantRequest(id="acme", name="x")
    await control.acting().policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy("f", "acme", _FREEZE)))
    with refused(Reason.POLICY_DENIED, rule="freeze", action="admin.tenant.write"):
        await acme.tenants.UpdateTenant(renamed)
    await acme.policies.DeletePolicy(pb.DeletePolicyRequest(tenant_id="acme", name="f"))
    await acme.tenants.UpdateTenant(renamed)


async def test_who_forbids_everything_can_still_take_it_back(control: Control) -> None:
    everything = '@id("all") forbid (principal, action, resource);'
    await control.acting().policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy("all", "default", everything)))
    with refused(Reason.POLICY_DENIED, rule="all"):
        await control.acting().tenants.ListTenants(tenants_pb.ListTenantsRequest())
    await control.acting().policies.DeletePolicy(pb.DeletePolicyRequest(tenant_id="default", name="all"))


@pytest.mark.req("PR-004")
async def test_a_service_decides_by_what_it_was_told(control: Control) -> None:
    await control.tenant("acme")
    member = admin_of("acme", role="member")
    cache = SettingsCache()
    engine = PolicyEngine(cache)
    assert not engine.decide(member, "model.call", "Model", "mini").allow
    async with watching(control, watch_settings, cache):
        await until(lambda: cache.get(ResourceKind.RESOURCE_KIND_POLICY, "", "builtin") is not None)
        assert engine.decide(member, "model.call", "Model", "mini").rule_ids == ("builtin.member",)
        made = await control.acting().policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy(tenant_id="acme")))
        assert await cache.wait_for(made.revision, 2.0)
        assert engine.decide(member, "model.call", "Model", "mini").rule_ids == ("no-mini",)
        assert engine.decide(member, "model.call", "Model", "other").allow


@pytest.mark.req("PR-030")
async def test_anothers_bundle_answers_like_one_that_is_not_there(control: Control) -> None:
    acme = await control.tenant("acme")
    await control.tenant("rival")
    await control.acting().policies.CreatePolicy(pb.CreatePolicyRequest(policy=_policy("theirs", "rival")))
    answers = []
    for name in ("theirs", "absent"):
        with pytest.raises(PlatformError) as caught:
            await acme.policies.GetPolicy(pb.GetPolicyRequest(tenant_id="acme", name=name))
        answers.append((caught.value.reason, caught.value.message.replace(name, "*")))
    assert answers[0] == answers[1]
