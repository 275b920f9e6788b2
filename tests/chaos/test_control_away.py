"""The control plane is stopped: everything goes on with what it told last, for as long as that may count."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support import chats
from tests.support.stack import Stack, until

STALE_S = 2.0
ADMIN_ROUTES = ("tenants", "workspaces", "api-keys", "model-registry", "policies", "settings", "audit")

pytestmark = pytest.mark.full


@pytest.fixture
def edges(whole: Stack) -> tuple[str, str]:
    return whole.url, whole.crew.url("edge-2")


@pytest.fixture
def tenant(whole: Stack) -> str:
    status, made = whole.request("POST", "/v1/admin/tenants", {"name": "Short of patience"})
    assert status == 201, made
    return str(made["id"])


def new_key(stack: Stack, tenant_id: str = "default") -> dict[str, Any]:
    """A key that may chat."""
    asked = {"tenant_id": tenant_id, "subject": "visitor", "roles": ["member"], "scopes": ["chat"]}
    status, made = stack.request("POST", "/v1/admin/api-keys", asked)
    assert status == 201, made
    return dict(made)


def chat(stack: Stack, url: str, key: str) -> int:
    """Status of a chat that is not streamed."""
    message = {"role": "user", "content": "Still there?"}
    status, _ = stack.request("POST", "/v1/chat/completions", {"model": "offline", "messages": [message]}, key, url)
    return status


def until_refused(stack: Stack, edges: tuple[str, str], key: str) -> float:
    """How long it takes, seconds, until every edge refuses a key that was just revoked; a second at most."""
    began = time.monotonic()
    until(lambda: {chat(stack, url, key) for url in edges} == {401}, 1.0, lambda: "a revoked key is still let in")
    return time.monotonic() - began


def revoke(stack: Stack, key: dict[str, Any]) -> None:
    status, told = stack.request("DELETE", f"/v1/admin/api-keys/{key['id']}")
    assert status in (200, 204), told


@pytest.mark.req("PR-027")
def test_a_revoked_key_is_refused_everywhere_within_a_second(
    whole: Stack, edges: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    took = []
    for _ in range(5):
        key = new_key(whole)
        assert [chat(whole, url, key["key"]) for url in edges] == [200, 200]
        revoke(whole, key)
        took.append(until_refused(whole, edges, key["key"]))
    with capsys.disabled():
        print(f"\na revoked key was refused by both edges after {max(took) * 1000:.0f} ms at most")


@pytest.mark.req("FR-030", "PR-027")
def test_chats_go_on_without_control(whole: Stack, edges: tuple[str, str]) -> None:
    good, revoked = new_key(whole), new_key(whole)
    for url in edges:
        for key in (good, revoked):
            assert chat(whole, url, key["key"]) == 200
    revoke(whole, revoked)
    until_refused(whole, edges, revoked["key"])
    whole.stop("control")
    served(whole, edges, good["key"], revoked["key"])
    refused = {route: whole.request("GET", f"/v1/admin/{route}")[0] for route in ADMIN_ROUTES}
    assert refused == dict.fromkeys(ADMIN_ROUTES, 503)
    until(lambda: whole.request("GET", "/health")[1]["status"] == "degraded", 15, whole.tails)
    down = [state for state in whole.request("GET", "/health")[1]["dependencies"] if state["status"] == "down"]
    assert [(state["name"], state["impact"]) for state in down] == [
        ("control", "everything goes on with the last settings")
    ]
    assert whole.request("GET", "/health/ready")[0] == 200
    # everything that starts now starts with what is on disk
    again = ("edge-2", "orchestrator", "orchestrator-2", "integration")
    for name in again:
        whole.stop(name)
        whole.restart(name)
    until(lambda: all(whole.crew.ready(name) for name in again), 90, whole.tails)
    until(lambda: chat(whole, edges[1], good["key"]) == 200, 30, whole.tails)
    served(whole, edges, good["key"], revoked["key"])
    whole.restart("control")
    until(lambda: whole.request("GET", "/v1/admin/tenants")[0] == 200, 60, whole.tails)
    assert chat(whole, edges[0], revoked["key"]) == 401


def served(stack: Stack, edges: tuple[str, str], good: str, revoked: str) -> None:
    """Chats of every kind, through each edge."""
    for url in edges:
        assert chat(stack, url, good) == 200
        assert chat(stack, url, revoked) == 401
        assert chats.undisturbed(stack, chats.asking(20, 0), url)
        thread_id = chats.new_thread(stack, url)
        with chats.read(stack, chats.asking(20, 0), thread_id, url) as reading:
            assert reading.wait_over().ended, reading.story()
        assert chats.answers(stack, thread_id, url) == [reading.text]


@pytest.mark.req("PR-004")
def test_old_settings_count_only_for_so_long(whole: Stack, tenant: str) -> None:
    asked = {"tenant_id": tenant, "settings": {"security": {"max_staleness_s": STALE_S}}}
    status, told = whole.request("PUT", "/v1/admin/settings", asked)
    assert status == 200, told
    strict, patient = new_key(whole, tenant)["key"], new_key(whole)["key"]
    assert chat(whole, whole.url, strict) == 200
    whole.stop("control")
    until(lambda: chat(whole, whole.url, strict) == 503, 10, whole.tails)
    status, told = whole.request("GET", "/v1/models", key=strict)
    assert (status, told["error"]["code"]) == (503, "settings_stale")
    # the profile's own limit is a day
    assert chat(whole, whole.url, patient) == 200
    whole.restart("control")
    until(lambda: chat(whole, whole.url, strict) == 200, 60, whole.tails)
