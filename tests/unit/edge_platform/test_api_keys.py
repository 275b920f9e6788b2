"""API keys: who a key is, and when it stops counting."""

from __future__ import annotations

import asyncio

import pytest

from edge.auth.apikey import hash_key
from edge.auth.identity import KeyRecord
from kit.errors import PlatformError, Reason

pytestmark = pytest.mark.req("PR-030")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def refused(door, headers: dict[str, str]) -> Reason:
    with pytest.raises(PlatformError) as caught:
        await door.authenticator.authenticate(headers)
    return caught.value.reason


async def test_a_pushed_key_tells_tenant_workspace_subject_roles_and_scopes(door):
    door.control.key("k1", "acme", "lab", roles=["operator"], scopes=["chat", "admin"], settings={"limits": {}})
    found = await door.authenticator.authenticate(bearer("k1"))
    principal = found.principal
    assert (principal.tenant_id, principal.workspace_id, principal.subject) == ("acme", "lab", "app:k1")
    assert (list(principal.roles), list(principal.scopes)) == (["operator"], ["chat", "admin"])
    assert (principal.api_key_id, found.key_settings) == ("key_k1", {"limits": {}})
    assert door.lookups.asked == []


async def test_x_admin_key_is_a_synonym(door):
    door.control.key("k1", "acme")
    assert (await door.authenticator.authenticate({"x-admin-key": "k1"})).principal.tenant_id == "acme"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, Reason.MISSING_CREDENTIALS),
        ({"authorization": "Basic abc"}, Reason.INVALID_API_KEY),
        ({"authorization": "Bearer "}, Reason.INVALID_API_KEY),
        ({"authorization": "Bearer unknown"}, Reason.INVALID_API_KEY),
        ({"authorization": "Bearer " + "x" * 600}, Reason.INVALID_API_KEY),
    ],
)
async def test_what_is_no_key_is_refused(door, headers, reason):
    door.control.tenant("acme")
    assert await refused(door, headers) is reason


async def test_a_revoked_key_is_refused_at_once_and_without_control(door):
    door.control.key("k1", "acme")
    await door.authenticator.authenticate(bearer("k1"))
    door.control.revoke("k1", "acme")
    door.lookups.away = True
    assert await refused(door, bearer("k1")) is Reason.INVALID_API_KEY


async def test_an_expired_key_is_told_so(door):
    door.control.key("k1", "acme", expires_at="2027-01-15T08:00:10Z")  # ten seconds from the clock's now
    await door.authenticator.authenticate(bearer("k1"))
    door.clock.now += 11
    assert await refused(door, bearer("k1")) is Reason.EXPIRED_CREDENTIALS


async def test_a_key_not_yet_pushed_is_asked_for_once_by_many(door):
    record = KeyRecord("key_new", "acme", "", "app:new", ("member",), ("chat",))
    door.lookups.known[hash_key("new")] = record
    door.control.tenant("acme")
    found = await asyncio.gather(*(door.authenticator.authenticate(bearer("new")) for _ in range(20)))
    assert {who.principal.subject for who in found} == {"app:new"}
    assert len(door.lookups.asked) == 1


async def test_an_unknown_key_is_remembered_for_a_moment_only(door):
    door.control.tenant("acme")
    for _ in range(3):
        assert await refused(door, bearer("later")) is Reason.INVALID_API_KEY
    assert len(door.lookups.asked) == 1
    door.lookups.known[hash_key("later")] = KeyRecord("key_later", "acme", "", "app:later", (), ("chat",))
    door.clock.now += 2
    assert (await door.authenticator.authenticate(bearer("later"))).principal.subject == "app:later"


async def test_a_revocation_beats_a_look_up_that_still_counts(door):
    door.lookups.known[hash_key("k1")] = KeyRecord("key_k1", "acme", "", "app:k1", (), ("chat",))
    door.control.tenant("acme")
    await door.authenticator.authenticate(bearer("k1"))
    door.control.key("k1", "acme", revoked_at="2027-01-15T08:00:00Z")
    assert await refused(door, bearer("k1")) is Reason.INVALID_API_KEY


async def test_a_withdrawn_key_is_refused_though_a_look_up_of_it_still_counts(door):
    door.lookups.known[hash_key("k1")] = KeyRecord("key_k1", "acme", "", "app:k1", (), ("chat",))
    door.control.tenant("acme")
    await door.authenticator.authenticate(bearer("k1"))
    door.control.key("k1", "acme")
    door.lookups.known.clear()
    door.control.revoke("k1", "acme")
    assert await refused(door, bearer("k1")) is Reason.INVALID_API_KEY


async def test_a_withdrawal_overtakes_a_look_up(door):
    door.control.tenant("acme")
    answered = door.lookups.gate = asyncio.Event()
    door.lookups.known[hash_key("k1")] = KeyRecord("key_k1", "acme", "", "app:k1", (), ("chat",))
    asking = asyncio.create_task(refused(door, bearer("k1")))
    async with asyncio.timeout(5):
        await door.lookups.reached.wait()
        door.control.key("k1", "acme")
        door.control.revoke("k1", "acme")
        answered.set()
        assert await asking is Reason.INVALID_API_KEY


async def test_before_anything_is_known_control_being_away_is_said(door):
    door.lookups.away = True
    assert await refused(door, bearer("k1")) is Reason.DEPENDENCY_UNAVAILABLE


async def test_with_a_known_state_an_unknown_key_is_unknown_while_control_is_away(door):
    door.control.tenant("acme")
    door.lookups.away = True
    assert await refused(door, bearer("k1")) is Reason.INVALID_API_KEY


async def test_a_look_up_nobody_waits_for_any_more_does_no_harm(door):
    door.lookups.away = True
    asking = asyncio.create_task(door.authenticator.authenticate(bearer("k1")))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()


@pytest.mark.parametrize("what", ["tenant", "workspace"])
async def test_keys_of_the_suspended_are_refused_until_it_is_lifted(door, what):
    door.control.tenant("acme", "suspended" if what == "tenant" else "active")
    door.control.workspace("acme", "lab", "suspended" if what == "workspace" else "active")
    door.control.key("k1", "acme", "lab")
    assert await refused(door, bearer("k1")) is Reason.POLICY_DENIED
    door.control.tenant("acme")
    door.control.workspace("acme", "lab")
    assert (await door.authenticator.authenticate(bearer("k1"))).principal.tenant_id == "acme"


async def test_settings_older_than_allowed_close_the_door(door):
    door.control.settings("", {"security": {"max_staleness_s": 0.000001}}, name="defaults")
    door.control.key("k1", "acme")
    assert await refused(door, bearer("k1")) is Reason.SETTINGS_STALE


def test_a_scope_is_needed_and_platform_implies_all(door):
    from edge.auth.identity import Authenticated
    from fastchat.common.v1.principal_pb2 import Principal

    with pytest.raises(PlatformError) as caught:
        Authenticated(Principal(scopes=["chat"]), {}).require("admin")
    assert caught.value.metadata == {"scope": "admin"}
    Authenticated(Principal(scopes=["platform"]), {}).require("admin")
