"""ApiKeyService, on both engines."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control.keys import new_key, shown_prefix
from fastchat.control.v1 import api_key_service_pb2 as pb
from fastchat.control.v1 import tenant_service_pb2 as tenants_pb
from kit.errors import PlatformError, Reason
from tests.unit.control.running import EDGE, Control, admin_of, refused


def _stamp(delta_s: float) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(datetime.now(UTC) + timedelta(seconds=delta_s))
    return result


def test_keys_are_random_and_long() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"fc-[0-9A-Za-z]{43}", key) for key in keys)


def test_of_a_short_key_little_is_shown() -> None:
    assert shown_prefix("fc-abcdefghijklmnopqrstuvwxyz0123456789") == "fc-abcd"
    assert shown_prefix("abcdefgh") == "ab"


@pytest.mark.req("11.1")
async def test_only_the_hash_of_a_key_is_kept(control: Control) -> None:
    made = await control.key("default", subject="build server", name="CI")
    key_hash = hashlib.sha256(made.key.encode()).hexdigest()
    found = await control.acting(EDGE).keys.LookupApiKey(pb.LookupApiKeyRequest(key_hash=key_hash))
    assert found.api_key == made.api_key
    assert made.key.startswith(made.api_key.prefix)
    exported = await control.acting().scope.ExportScope(_scope("default"))
    everything = json.dumps([row.row_json for row in exported])
    assert key_hash in everything
    assert made.key not in everything


async def test_a_key_has_what_its_role_brings(control: Control) -> None:
    plain = (await control.key("default")).api_key
    assert (list(plain.roles), list(plain.scopes), plain.subject) == (["member"], ["chat"], f"key:{plain.id}")
    admin = (await control.key("default", roles=["admin", "admin"])).api_key
    assert (list(admin.roles), list(admin.scopes)) == (["admin"], ["chat", "admin"])
    narrow = (await control.key("default", roles=["admin"], scopes=["chat"])).api_key
    assert list(narrow.scopes) == ["chat"]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"roles": ["member", "king"]}, "roles[1]"),
        ({"scopes": ["everything"]}, "scopes[0]"),
        ({"subject": "service:edge"}, "subject"),
        ({"subject": "x" * 257}, "subject"),
        ({"name": "x" * 201}, "name"),
        ({"settings_json": "[]"}, "settings"),
        ({"settings_json": "{"}, "settings"),
        ({"settings_json": '{"limits": {"requests_per_minute": -1}}'}, "settings.limits.requests_per_minute"),
        ({"settings_json": '{"colour": 1}'}, "settings.colour"),
        ({"settings_json": '{"security": {"jwt": []}}'}, "settings.security.jwt"),
        ({"expire_time": _stamp(-60)}, "expires_at"),
        ({"expire_time": Timestamp(seconds=2**62)}, "expires_at"),
    ],
)
async def test_a_wrong_field_is_named(sqlite_control: Control, wanted: dict[str, Any], field: str) -> None:
    with refused(Reason.INVALID_ARGUMENT, field=field):
        await sqlite_control.key("default", **wanted)


async def test_a_key_needs_a_tenant_and_workspace_that_exist(control: Control) -> None:
    with refused(Reason.NOT_FOUND, resource="tenant", id="nobody"):
        await control.key("nobody")
    with refused(Reason.NOT_FOUND, resource="workspace", id="nowhere"):
        await control.key("default", workspace_id="nowhere")


async def test_a_key_is_changed_under_its_version(control: Control) -> None:
    made = (await control.key("default", name="one")).api_key
    keys = control.acting().keys
    request = pb.UpdateApiKeyRequest(
        tenant_id="default",
        id=made.id,
        name="two",
        replace_grants=True,
        roles=["viewer"],
        expire_time=_stamp(3600),
        settings_json='{"preferences": {"events": "off"}}',
        etag=made.etag,
    )
    changed = (await keys.UpdateApiKey(request)).api_key
    assert (changed.name, list(changed.roles), list(changed.scopes)) == ("two", ["viewer"], ["chat"])
    assert json.loads(changed.settings_json) == {"preferences": {"events": "off"}}
    with refused(Reason.ETAG_MISMATCH, etag=changed.etag):
        await keys.UpdateApiKey(request)
    untouched = pb.UpdateApiKeyRequest(tenant_id="default", id=made.id, name="three")
    assert list((await keys.UpdateApiKey(untouched)).api_key.roles) == ["viewer"]


async def test_a_revoked_key_is_listed_on_demand_and_cannot_be_changed(control: Control) -> None:
    made = (await control.key("default")).api_key
    keys = control.acting().keys
    revoked = await keys.RevokeApiKey(pb.RevokeApiKeyRequest(tenant_id="default", id=made.id))
    again = await keys.RevokeApiKey(pb.RevokeApiKeyRequest(tenant_id="default", id=made.id))
    assert again == revoked
    with refused(Reason.CONFLICT):
        await keys.UpdateApiKey(pb.UpdateApiKeyRequest(tenant_id="default", id=made.id, name="x"))
    living = (await keys.ListApiKeys(pb.ListApiKeysRequest(tenant_id="default"))).api_keys
    everyone = (await keys.ListApiKeys(pb.ListApiKeysRequest(tenant_id="default", include_revoked=True))).api_keys
    assert made.id not in [key.id for key in living]
    assert made.id in [key.id for key in everyone]


async def test_keys_are_listed_newest_first_by_pages(control: Control) -> None:
    await control.tenant("acme")
    made = [(await control.key("acme")).api_key.id for _ in range(5)]
    keys, token, found = control.acting().keys, "", []
    while True:
        page = await keys.ListApiKeys(pb.ListApiKeysRequest(tenant_id="acme", page_size=2, page_token=token))
        found += [key.id for key in page.api_keys]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]


@pytest.mark.req("PR-027")
async def test_nobody_gives_what_it_does_not_have(control: Control) -> None:
    acme = await control.tenant("acme")
    await acme.keys.CreateApiKey(pb.CreateApiKeyRequest(tenant_id="acme", roles=["admin"]))
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await acme.keys.CreateApiKey(pb.CreateApiKeyRequest(tenant_id="acme", scopes=["platform"]))
    with refused(Reason.POLICY_DENIED):
        operator = control.acting(admin_of("acme", role="operator"))
        await operator.keys.CreateApiKey(pb.CreateApiKeyRequest(tenant_id="acme"))


@pytest.mark.req("PR-027")
async def test_a_platforms_key_is_the_platforms_to_change(control: Control) -> None:
    root = (await control.key("default", scopes=["platform"])).api_key
    admin = control.acting(admin_of("default"))
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await admin.keys.UpdateApiKey(pb.UpdateApiKeyRequest(tenant_id="default", id=root.id, name="mine"))
    with refused(Reason.MISSING_SCOPE, scope="platform"):
        await admin.keys.RevokeApiKey(pb.RevokeApiKeyRequest(tenant_id="default", id=root.id))


@pytest.mark.req("PR-030")
async def test_anothers_key_answers_like_one_that_is_not_there(control: Control) -> None:
    acme = await control.tenant("acme")
    await control.tenant("rival")
    theirs = (await control.key("rival")).api_key.id
    for verb, request in (
        ("GetApiKey", pb.GetApiKeyRequest(tenant_id="acme", id="*")),
        ("UpdateApiKey", pb.UpdateApiKeyRequest(tenant_id="acme", id="*", name="x")),
        ("RevokeApiKey", pb.RevokeApiKeyRequest(tenant_id="acme", id="*")),
    ):
        answers = []
        for key_id in (theirs, "key_absent", "a\x00b"):
            request.id = key_id
            with pytest.raises(PlatformError) as caught:
                await getattr(acme.keys, verb)(request)
            answers.append((caught.value.reason, caught.value.message.replace(key_id, "*")))
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] is Reason.NOT_FOUND


@pytest.mark.req("PR-030")
async def test_a_key_bound_to_a_workspace_administers_that_workspace(control: Control) -> None:
    acme = await control.tenant("acme")
    await acme.tenants.CreateWorkspace(tenants_pb.CreateWorkspaceRequest(tenant_id="acme", id="lab", name="Lab"))
    elsewhere = (await control.key("acme", workspace_id="default")).api_key.id
    bound = control.acting(admin_of("acme", workspace_id="lab"))
    made = await bound.keys.CreateApiKey(pb.CreateApiKeyRequest(tenant_id="acme"))
    assert made.api_key.workspace_id == "lab"
    with refused(Reason.POLICY_DENIED, rule="workspace-bound"):
        await bound.keys.CreateApiKey(pb.CreateApiKeyRequest(tenant_id="acme", workspace_id="default"))
    with refused(Reason.NOT_FOUND):
        await bound.keys.RevokeApiKey(pb.RevokeApiKeyRequest(tenant_id="acme", id=elsewhere))
    listed = (await bound.keys.ListApiKeys(pb.ListApiKeysRequest(tenant_id="acme"))).api_keys
    assert [key.id for key in listed] == [made.api_key.id]
    with refused(Reason.POLICY_DENIED, rule="workspace-bound"):
        await bound.tenants.UpdateTenant(tenants_pb.UpdateTenantRequest(id="acme", name="mine"))


async def test_looking_up_is_for_services(control: Control) -> None:
    key_hash = hashlib.sha256(b"x").hexdigest()
    with refused(Reason.POLICY_DENIED, rule="services-only"):
        await control.acting().keys.LookupApiKey(pb.LookupApiKeyRequest(key_hash=key_hash))
    with refused(Reason.NOT_FOUND):
        await control.acting(EDGE).keys.LookupApiKey(pb.LookupApiKeyRequest(key_hash=key_hash))
    with refused(Reason.INVALID_ARGUMENT, field="key_hash"):
        await control.acting(EDGE).keys.LookupApiKey(pb.LookupApiKeyRequest(key_hash="x"))


def _scope(tenant_id: str) -> Any:
    from fastchat.common.v1.scope_service_pb2 import ExportScopeRequest, Scope

    return ExportScopeRequest(scope=Scope(tenant_id=tenant_id))
