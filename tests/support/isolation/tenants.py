"""A tenant that has one of everything, each with a text that nobody else has; and ids of the same form that are absent.

Kinds of ids are those of `Tenant.ids`: tenant, workspace, key (an API key's id), key_hash, alias, policy, thread,
message, run, public (a run's id as clients see it), job, audit, user, subject, and for what is not served yet random
ones: lease, tool, file, collection.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from kit.bus import Bus, BusConfig
from kit.ids import new_id, new_uuid
from kit.jobs import DeadLetters, Job, JobQueue
from kit.principal import service_principal
from tests.support.stack import Stack, until
from tests.support.upstream import KEY as UPSTREAM_KEY

Ids = Mapping[str, str]
SLOW_WORDS, SLOW_MS = 600, 500
"""The running run goes on for five minutes, longer than any sweep."""


@dataclass(frozen=True)
class Tenant:
    """A tenant with an administrator's key (scopes chat and admin, never platform)."""

    api_key: str
    ids: Ids
    canaries: tuple[str, ...]
    """Texts that only this tenant has."""


class Client:
    """The HTTP API as a tenant's administrator, for setting up and looking."""

    def __init__(self, stack: Stack, api_key: str) -> None:
        self._http = httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {api_key}"}, timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """JSON of an answer that must be a success."""
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def chat(self, thread: str, model: str, text: str) -> str:
        """A whole turn; returns the run's id."""
        body = {"model": model, "thread_id": thread, "messages": [{"role": "user", "content": text}]}
        answer = self._http.post("/v1/chat/completions", json=body)
        assert answer.is_success, answer.text
        return answer.headers["x-fastchat-run-id"]

    def leave_running(self, thread: str, model: str, text: str) -> str:
        """Begin a turn and leave: a durable run goes on without its reader. Returns the run's id."""
        body = {"model": model, "thread_id": thread, "stream": True, "messages": [{"role": "user", "content": text}]}
        with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.is_success, answer.read()
            next(answer.iter_bytes())
            return answer.headers["x-fastchat-run-id"]


def make_tenant(stack: Stack, *, running: bool) -> Tenant:
    """A new tenant with one of everything. `running`: the run (and so its thread) is still going on."""
    mark = secrets.token_hex(4)
    canary = f"canary{secrets.token_hex(6)}"
    ids = {
        "tenant": f"tenant-{mark}",
        "workspace": f"space-{mark}",
        "alias": f"model-{mark}",
        "policy": f"policy-{mark}",
        "user": f"person-{mark}",
        "subject": f"app-{mark}",
        "lease": f"lease-{mark}",
        "tool": f"tool-{mark}",
        "collection": f"collection-{mark}",
        "file": f"file-{mark}",
    }
    with Client(stack, stack.key) as platform:
        platform.call("POST", "/v1/admin/tenants", {"id": ids["tenant"], "name": f"{canary} tenant"})
        admin = platform.call("POST", "/v1/admin/api-keys", _admin_key(ids))
    with Client(stack, admin["key"]) as client:
        ids |= _configure(client, stack, ids, canary)
        ids |= _talk(client, stack, ids, canary, running=running)
        ids["job"] = asyncio.run(_dead_job(stack, ids["tenant"], canary))
        ids["audit"] = _audit(client)
    canaries = (canary, admin["key"], admin["id"], str(_limit_of(mark)))
    return Tenant(admin["key"], ids, canaries)


def absent(ids: Ids) -> Ids:
    """Ids of the same form that nothing has. Names differ in their last digit only: lists are cut at the same place."""
    other = {kind: _neighbour(value) for kind, value in ids.items()}
    for kind in ("thread", "message", "run", "audit"):
        other[kind] = new_uuid()
    other["key"] = new_id("key")
    other["key_hash"] = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
    other["public"] = f"chatcmpl-{other['run'].replace('-', '')}"
    other["job"] = f"job_{'a' * 6}{'q' * 6}a"
    return other


def state_of(stack: Stack, tenant: Tenant) -> dict[str, Any]:
    """Everything of the tenant that its own administrator can read over HTTP."""
    ids = tenant.ids
    paths = [
        f"/v1/admin/tenants/{ids['tenant']}",
        "/v1/admin/workspaces",
        "/v1/admin/api-keys?include_revoked=true",
        "/v1/admin/model-registry",
        "/v1/admin/policies",
        "/v1/admin/settings?layer=tenant",
        f"/v1/admin/settings?layer=workspace&workspace_id={ids['workspace']}",
        "/v1/admin/audit?limit=200",
        "/v1/admin/jobs",
        "/v1/threads",
        f"/v1/threads/{ids['thread']}/messages",
        f"/v1/runs/{ids['run']}",
        "/v1/models",
    ]
    with Client(stack, tenant.api_key) as client:
        return {path: client.call("GET", path) for path in paths}


def remove_tenant(stack: Stack, tenant: Tenant) -> None:
    """Take the tenant away, so that the stack is as it was."""
    stack.request("POST", f"/v1/runs/{tenant.ids['run']}/cancel", key=tenant.api_key)
    stack.request("DELETE", f"/v1/admin/jobs/{tenant.ids['job']}", key=tenant.api_key)
    stack.request("DELETE", f"/v1/admin/tenants/{tenant.ids['tenant']}")


def _admin_key(ids: Ids) -> dict[str, Any]:
    # It may act for others, so that headers naming another tenant's things are looked at at all.
    return {
        "tenant_id": ids["tenant"],
        "roles": ["admin"],
        "scopes": ["chat", "admin"],
        "settings": {"security": {"act_for": True}},
    }


def _configure(client: Client, stack: Stack, ids: Ids, canary: str) -> dict[str, str]:
    tenant = {"tenant_id": ids["tenant"]}
    workspace = {"workspace_id": ids["workspace"]}
    client.call("POST", "/v1/admin/workspaces", {**tenant, "id": ids["workspace"], "name": f"{canary} workspace"})
    key = {**tenant, **workspace, "subject": ids["subject"], "name": f"{canary} key"}
    made = client.call("POST", "/v1/admin/api-keys", key)
    call = {"model": f"openai/{ids['alias']}", "api_base": f"{stack.upstream}/v1", "api_key": UPSTREAM_KEY}
    client.call("POST", "/v1/admin/model-registry", {**tenant, "alias": ids["alias"], "litellm": call})
    rule = (
        f'@id("{canary}") forbid (principal, action == Action::"run.cancel", resource)'
        f' when {{ principal.workspace == "{canary}" }};'
    )
    client.call("POST", "/v1/admin/policies", {**tenant, "name": ids["policy"], "cedar": rule, "description": canary})
    limits = {"limits": {"max_prompt_tokens": _limit_of(ids["tenant"][-8:])}}
    client.call("PUT", "/v1/admin/settings", {**tenant, "settings": limits})
    client.call("PUT", "/v1/admin/settings", {**tenant, **workspace, "settings": limits})
    return {"key": made["id"], "key_hash": hashlib.sha256(made["key"].encode()).hexdigest()}


def _talk(client: Client, stack: Stack, ids: Ids, canary: str, *, running: bool) -> dict[str, str]:
    made = client.call("POST", "/v1/threads", {"user_id": ids["user"], "title": f"{canary} title"})
    stack.behave(ids["alias"], text=f"{canary} answer", times=1)
    run = client.chat(made["id"], ids["alias"], f"{canary} question")
    messages = client.call("GET", f"/v1/threads/{made['id']}/messages")
    assert canary in messages[1]["content"]
    if running:
        stack.behave(ids["alias"], words=SLOW_WORDS, delay_ms=SLOW_MS, times=1)
        run = client.leave_running(made["id"], ids["alias"], f"{canary} again")
    return {
        "thread": made["id"],
        "message": messages[1]["id"],
        "run": run,
        "public": f"chatcmpl-{run.replace('-', '')}",
    }


async def _dead_job(stack: Stack, tenant_id: str, canary: str) -> str:
    """A job of the tenant that was given up."""
    bus = await Bus.connect(BusConfig(url=stack.environment("edge")["FASTCHAT_BUS__URL"]))
    stop = asyncio.Event()

    async def fail(job: Job) -> None:
        stop.set()
        raise RuntimeError(canary)

    try:
        queue = JobQueue(bus, "isolation", max_deliver=1)
        await queue.enqueue("sweep", b"", key=canary, principal=service_principal("tests", tenant_id))
        async with asyncio.timeout(30):
            await queue.work(fail, 1, stop)
            while True:
                letters = (await DeadLetters(bus).list("isolation", tenant_id)).letters
                if letters:
                    return letters[0].id
                await asyncio.sleep(0.05)
    finally:
        await bus.close()


def _audit(client: Client) -> str:
    """Wait until what was done is on record; the id of an event. Calls of models are recorded by way of the bus."""
    events: list[dict[str, Any]] = []

    def recorded() -> bool:
        events[:] = client.call("GET", "/v1/admin/audit?limit=200")["data"]
        return any(event["action"] == "model.call" for event in events)

    until(recorded, 30, lambda: f"audit events: {[event['action'] for event in events]}")
    return str(events[-1]["id"])


def _limit_of(mark: str) -> int:
    """A limit that nobody else has, far above what the tests use."""
    return 1_000_000_000 + int(mark, 16) % 1_000_000_000


def _neighbour(value: str) -> str:
    last = value[-1]
    return value[:-1] + ("1" if last == "0" else chr(ord(last) - 1) if last != "a" else "9")
