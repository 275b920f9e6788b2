"""Acting for end users: only from keys that may, and never wider than the key."""

from __future__ import annotations

import pytest

from kit.errors import PlatformError, Reason

pytestmark = pytest.mark.req("PR-027")


def headers(key: str, **told: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in told.items()}}


async def test_an_ordinary_key_acts_for_nobody(door):
    door.control.key("k1", "acme", roles=["member"])
    sent = headers("k1", x_user_id="ann", x_tenant_id="other", x_workspace="lab", x_user_role="admin")
    principal = (await door.authenticator.authenticate(sent)).principal
    assert (principal.act_for, principal.tenant_id, principal.workspace_id) == ("", "acme", "")
    assert list(principal.roles) == ["member"]


async def test_a_key_that_may_acts_for_a_user_in_a_workspace_with_one_of_its_roles(door):
    door.control.tenant("acme")
    door.control.workspace("acme", "lab")
    door.control.key("k1", "acme", act_for=True, roles=["operator", "viewer"])
    sent = headers("k1", x_user_id="ann", x_workspace="lab", x_user_role="viewer")
    principal = (await door.authenticator.authenticate(sent)).principal
    assert (principal.act_for, principal.workspace_id, list(principal.roles)) == ("ann", "lab", ["viewer"])
    plain = (await door.authenticator.authenticate(headers("k1"))).principal
    assert plain.act_for == ""


async def test_it_does_not_get_a_role_that_the_key_has_not(door):
    door.control.key("k1", "acme", act_for=True, roles=["viewer"])
    principal = (await door.authenticator.authenticate(headers("k1", x_user_id="ann", x_user_role="admin"))).principal
    assert list(principal.roles) == ["viewer"]


async def test_a_tenant_can_switch_it_off(door):
    door.control.settings("acme", {"security": {"act_for": False}})
    door.control.key("k1", "acme", act_for=True)
    assert (await door.authenticator.authenticate(headers("k1", x_user_id="ann"))).principal.act_for == ""


@pytest.mark.parametrize("tenant", ["beta", "no-such"])
async def test_another_tenant_is_not_found_whether_it_exists_or_not(door, tenant):
    door.control.tenant("beta")
    door.control.key("k1", "acme", act_for=True)
    with pytest.raises(PlatformError) as caught:
        await door.authenticator.authenticate(headers("k1", x_tenant_id=tenant))
    assert (caught.value.reason, caught.value.metadata) == (Reason.NOT_FOUND, {"resource": "tenant", "id": tenant})


async def test_a_platform_key_becomes_a_user_of_the_tenant_and_loses_the_platform(door):
    door.control.tenant("beta")
    door.control.key("root", "default", act_for=True, scopes=["chat", "admin", "platform"])
    principal = (await door.authenticator.authenticate(headers("root", x_tenant_id="beta"))).principal
    assert (principal.tenant_id, list(principal.scopes)) == ("beta", ["chat", "admin"])


async def test_a_key_bound_to_a_workspace_does_not_leave_it(door):
    door.control.workspace("acme", "lab")
    door.control.workspace("acme", "attic")
    door.control.key("k1", "acme", "lab", act_for=True)
    with pytest.raises(PlatformError) as caught:
        await door.authenticator.authenticate(headers("k1", x_workspace="attic"))
    assert caught.value.reason is Reason.NOT_FOUND


async def test_a_header_too_long_names_itself(door):
    door.control.key("k1", "acme", act_for=True)
    with pytest.raises(PlatformError) as caught:
        await door.authenticator.authenticate(headers("k1", x_user_id="a" * 300))
    assert caught.value.metadata == {"field": "x-user-id"}
