"""TenantService, on both engines."""

from __future__ import annotations

import pytest

from fastchat.control.v1 import api_key_service_pb2 as keys_pb
from fastchat.control.v1 import tenant_service_pb2 as pb
from kit.errors import PlatformError, Reason
from tests.unit.control.running import Control, admin_of, refused


async def test_the_first_start_makes_tenant_and_workspace_default(control: Control) -> None:
    everything = control.acting()
    tenants = (await everything.tenants.ListTenants(pb.ListTenantsRequest())).tenants
    workspaces = (await everything.tenants.ListWorkspaces(pb.ListWorkspacesRequest(tenant_id="default"))).workspaces
    assert [tenant.id for tenant in tenants] == ["default"]
    assert [workspace.id for workspace in workspaces] == ["default"]


async def test_a_tenant_is_made_read_changed_and_removed(control: Control) -> None:
    platform = control.acting().tenants
    made = await platform.CreateTenant(pb.CreateTenantRequest(name="Ärzte & Co"))
    assert made.tenant.id == "arzte-co"
    assert made.tenant.status == pb.LIFECYCLE_STATUS_ACTIVE
    read = (await platform.GetTenant(pb.GetTenantRequest(id="arzte-co"))).tenant
    assert read == made.tenant
    changed = await platform.UpdateTenant(
        pb.UpdateTenantRequest(id="arzte-co", status=pb.LIFECYCLE_STATUS_SUSPENDED, etag=read.etag)
    )
    assert changed.revision > made.revision
    assert (changed.tenant.name, changed.tenant.status) == ("Ärzte & Co", pb.LIFECYCLE_STATUS_SUSPENDED)
    with refused(Reason.ETAG_MISMATCH, etag=changed.tenant.etag):
        await platform.DeleteTenant(pb.DeleteTenantRequest(id="arzte-co", etag=read.etag))
    await platform.DeleteTenant(pb.DeleteTenantRequest(id="arzte-co", etag=changed.tenant.etag))
    with refused(Reason.NOT_FOUND):
        await platform.GetTenant(pb.GetTenantRequest(id="arzte-co"))


async def test_a_removed_tenants_keys_are_revoked_and_its_id_is_never_given_again(control: Control) -> None:
    acme = await control.tenant("acme")
    made = await acme.keys.CreateApiKey(keys_pb.CreateApiKeyRequest(tenant_id="acme"))
    await control.acting().tenants.DeleteTenant(pb.DeleteTenantRequest(id="acme"))
    with refused(Reason.ALREADY_EXISTS, resource="tenant", id="acme"):
        await control.acting().tenants.CreateTenant(pb.CreateTenantRequest(id="acme", name="Acme"))
    with refused(Reason.NOT_FOUND, resource="tenant"):
        await acme.keys.ListApiKeys(keys_pb.ListApiKeysRequest(tenant_id="acme"))
    read = await control.acting().keys.GetApiKey(keys_pb.GetApiKeyRequest(tenant_id="acme", id=made.api_key.id))
    assert read.api_key.HasField("revoke_time")


async def test_the_default_tenant_stays(control: Control) -> None:
    with refused(Reason.CONFLICT):
        await control.acting().tenants.DeleteTenant(pb.DeleteTenantRequest(id="default"))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateTenantRequest(id="Acme", name="x"), "id"),
        (pb.CreateTenantRequest(id="-a", name="x"), "id"),
        (pb.CreateTenantRequest(id="a" * 64, name="x"), "id"),
        (pb.CreateTenantRequest(id="acme"), "name"),
        (pb.CreateTenantRequest(id="acme", name="x" * 201), "name"),
        (pb.CreateTenantRequest(id="acme", name="a\x00b"), "name"),
    ],
)
async def test_a_wrong_field_is_named(sqlite_control: Control, request_: pb.CreateTenantRequest, field: str) -> None:
    with refused(Reason.INVALID_ARGUMENT, field=field):
        await sqlite_control.acting().tenants.CreateTenant(request_)


async def test_tenants_are_listed_by_pages_in_order_of_id(control: Control) -> None:
    for name in ("c", "a", "b"):
        await control.tenant(name)
    platform = control.acting().tenants
    first = await platform.ListTenants(pb.ListTenantsRequest(page_size=2))
    second = await platform.ListTenants(pb.ListTenantsRequest(page_size=2, page_token=first.next_page_token))
    assert [tenant.id for tenant in [*first.tenants, *second.tenants]] == ["a", "b", "c", "default"]
    assert second.next_page_token == ""
    with refused(Reason.INVALID_ARGUMENT, field="page_token"):
        await platform.ListTenants(pb.ListTenantsRequest(page_token="nonsense"))


@pytest.mark.req("PR-030")
async def test_a_tenants_admin_sees_and_names_its_own_tenant_only(control: Control) -> None:
    acme = await control.tenant("acme")
    await control.tenant("rival")
    assert [tenant.id for tenant in (await acme.tenants.ListTenants(pb.ListTenantsRequest())).tenants] == ["acme"]
    await acme.tenants.UpdateTenant(pb.UpdateTenantRequest(id="acme", name="Acme Inc."))
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await acme.tenants.UpdateTenant(pb.UpdateTenantRequest(id="acme", status=pb.LIFECYCLE_STATUS_SUSPENDED))
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await acme.tenants.CreateTenant(pb.CreateTenantRequest(id="mine", name="x"))
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await acme.tenants.DeleteTenant(pb.DeleteTenantRequest(id="rival"))


@pytest.mark.req("PR-030")
async def test_anothers_tenant_answers_like_one_that_is_not_there(control: Control) -> None:
    acme = await control.tenant("acme")
    await control.tenant("rival")
    answers = []
    for name in ("rival", "nobody"):
        with pytest.raises(PlatformError) as caught:
            await acme.tenants.GetTenant(pb.GetTenantRequest(id=name))
        answers.append((caught.value.reason, caught.value.message.replace(name, "*"), sorted(caught.value.metadata)))
    assert answers[0] == answers[1]
    assert answers[0][0] is Reason.NOT_FOUND


async def test_workspaces_come_and_go_with_their_keys(control: Control) -> None:
    acme = await control.tenant("acme")
    made = await acme.tenants.CreateWorkspace(pb.CreateWorkspaceRequest(tenant_id="acme", id="lab", name="Lab"))
    with refused(Reason.ALREADY_EXISTS, resource="workspace", id="lab"):
        await acme.tenants.CreateWorkspace(pb.CreateWorkspaceRequest(tenant_id="acme", id="lab", name="Lab"))
    key = await control.key("acme", workspace_id="lab")
    listed = (await acme.tenants.ListWorkspaces(pb.ListWorkspacesRequest(tenant_id="acme"))).workspaces
    assert [workspace.id for workspace in listed] == ["default", "lab"]
    changed = await acme.tenants.UpdateWorkspace(
        pb.UpdateWorkspaceRequest(tenant_id="acme", id="lab", name="Lab 2", etag=made.workspace.etag)
    )
    assert changed.workspace.name == "Lab 2"
    await acme.tenants.DeleteWorkspace(pb.DeleteWorkspaceRequest(tenant_id="acme", id="lab"))
    with refused(Reason.NOT_FOUND, resource="workspace"):
        await acme.tenants.GetWorkspace(pb.GetWorkspaceRequest(tenant_id="acme", id="lab"))
    read = await acme.keys.GetApiKey(keys_pb.GetApiKeyRequest(tenant_id="acme", id=key.api_key.id))
    assert read.api_key.HasField("revoke_time")


@pytest.mark.req("PR-027")
async def test_an_operator_reads_and_changes_nothing(control: Control) -> None:
    await control.tenant("acme")
    operator = control.acting(admin_of("acme", role="operator"))
    await operator.tenants.GetTenant(pb.GetTenantRequest(id="acme"))
    with refused(Reason.POLICY_DENIED, action="admin.tenant.write"):
        await operator.tenants.UpdateTenant(pb.UpdateTenantRequest(id="acme", name="x"))


async def test_the_scope_admin_is_needed(control: Control) -> None:
    member = admin_of("default", role="member")
    del member.scopes[:]
    member.scopes.append("chat")
    with refused(Reason.MISSING_SCOPE, scope="admin"):
        await control.acting(member).tenants.ListTenants(pb.ListTenantsRequest())
