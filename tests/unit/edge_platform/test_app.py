"""The edge beside a real control plane and a real NATS, put together as the process does it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control.app import build as build_control
from control.config import ControlConfig
from edge.app import build
from edge.config import EdgeConfig
from fastchat.gateway.v1 import chat_service_pb2, chat_service_pb2_grpc
from kit.bus import Bus, BusConfig
from kit.config import load
from kit.errors import PlatformError
from kit.hosting import Hosting
from kit.jobs import JobQueue
from kit.mesh import open_mesh
from kit.principal import service_principal
from kit.process import SECTIONS

ROOT = {"authorization": "Bearer root-key-of-this-test"}


class Platform:
    """Control and edge in this process."""

    def __init__(self, hosting: Hosting, client: httpx.AsyncClient) -> None:
        self.control, self.edge = hosting.hosted
        self.bus = hosting.mesh.bus
        self.http = client

    async def tenant(self, tenant_id: str, *scopes: str) -> dict[str, str]:
        """A new tenant; headers of a key of its admin."""
        made = await self.http.post("/v1/admin/tenants", headers=ROOT, json={"id": tenant_id, "name": tenant_id})
        assert made.status_code == 201, made.text
        body = {"tenant_id": tenant_id, "subject": "boss", "roles": ["admin"], "scopes": list(scopes)}
        key = await self.http.post("/v1/admin/api-keys", headers=ROOT, json=body)
        assert key.status_code == 201, key.text
        return {"authorization": f"Bearer {key.json()['key']}", "x-key-id": key.json()["id"]}


@pytest.fixture
async def platform(tmp_path, nats_url):
    env = {
        "FASTCHAT_BOOTSTRAP_KEY": "root-key-of-this-test",
        "FASTCHAT_EDGE__PORT": "0",
        "FASTCHAT_EDGE__PARTNER__PORT": "0",
        "FASTCHAT_MESH__ADDRESSES": '{"orchestrator": "127.0.0.1:1", "integration": "127.0.0.1:1"}',
        "FASTCHAT_BUS__URL": nats_url,
    }
    loaded = load(None, env, {**SECTIONS, "control": ControlConfig, "edge": EdgeConfig})
    async with AsyncExitStack() as stack:
        bus = await Bus.connect(loaded.section("bus", BusConfig), name="test")
        stack.push_async_callback(bus.close)
        mesh = open_mesh(loaded, tmp_path, bus)
        stack.push_async_callback(mesh.close)
        hosting = Hosting(mesh, stack)
        await hosting.host("control", build_control)
        edge = await hosting.host("edge", build)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://{edge.http.address}"))
        async with asyncio.timeout(20):
            await hosting.ready()
        yield Platform(hosting, client)


async def until(answer, holds) -> httpx.Response:
    """Ask until the answer is as wanted."""
    async with asyncio.timeout(10):
        while True:
            found = await answer()
            if holds(found):
                return found
            await asyncio.sleep(0.02)


@pytest.mark.req("PR-030")
async def test_a_key_counts_at_once_and_a_revoked_one_never_again(platform):
    acme = await platform.tenant("acme")
    own = await platform.http.get("/v1/admin/tenants", headers=acme)
    assert [tenant["id"] for tenant in own.json()["data"]] == ["acme"]
    gone = await platform.http.delete(f"/v1/admin/api-keys/{acme['x-key-id']}", headers=acme)
    assert gone.status_code == 200, gone.text
    assert (await platform.http.get("/v1/admin/tenants", headers=acme)).status_code == 401


@pytest.mark.req("PR-004")
async def test_settings_written_are_in_force_for_the_next_request(platform):
    acme = await platform.tenant("acme")
    put = await platform.http.put(
        "/v1/admin/settings", headers=acme, json={"settings": {"limits": {"requests_per_minute": 100}}}
    )
    assert put.status_code == 200, put.text
    read = await platform.http.get("/v1/admin/settings", headers=acme)
    assert read.json()["settings"]["limits"]["requests_per_minute"] == 100
    assert read.json()["origins"]["limits.requests_per_minute"] == "tenant"
    assert read.headers["x-ratelimit-limit-requests"] == "100"


async def test_a_suspended_tenant_is_shut_out_at_once(platform):
    acme = await platform.tenant("acme")
    await platform.http.patch("/v1/admin/tenants/acme", headers=ROOT, json={"status": "suspended"})
    assert (await platform.http.get("/v1/admin/tenants", headers=acme)).status_code == 403


@pytest.mark.req("PR-003")
async def test_models_policies_and_workspaces_round_trip(platform):
    acme = await platform.tenant("acme")
    entry = {"alias": "mine", "litellm": {"model": "openai/gpt-4o", "api_key": "sk-secret"}, "mode": "chat"}
    made = await platform.http.post("/v1/admin/model-registry", headers=acme, json=entry)
    assert made.status_code == 201, made.text
    assert "sk-secret" not in made.text
    read = await platform.http.get("/v1/admin/model-registry/mine", headers=acme)
    assert read.headers["etag"] == made.headers["etag"]
    entry["context_window"] = 1000
    put = await platform.http.put(
        "/v1/admin/model-registry/mine", headers=acme | {"if-match": read.headers["etag"]}, json=entry
    )
    assert put.status_code == 200, put.text
    stale = await platform.http.delete(
        "/v1/admin/model-registry/mine", headers=acme | {"if-match": read.headers["etag"]}
    )
    assert stale.status_code == 412
    aliases = (await platform.http.get("/v1/admin/model-registry", headers=acme)).json()["data"]
    assert {"mine", "offline"} <= {entry["alias"] for entry in aliases}
    cedar = '@id("no-chat") forbid (principal, action == Action::"chat.create", resource);'
    bundle = await platform.http.post("/v1/admin/policies", headers=acme, json={"name": "quiet", "cedar": cedar})
    assert bundle.status_code == 201, bundle.text
    space = await platform.http.post("/v1/admin/workspaces", headers=acme, json={"id": "lab", "name": "Lab"})
    assert space.status_code == 201, space.text
    spaces = (await platform.http.get("/v1/admin/workspaces", headers=acme)).json()["data"]
    assert [space["id"] for space in spaces] == ["default", "lab"]


@pytest.mark.req("PR-029")
async def test_what_was_done_is_in_the_audit_log(platform):
    acme = await platform.tenant("acme")
    found = await until(
        lambda: platform.http.get("/v1/admin/audit?action=api_key.*", headers=acme),
        lambda answer: answer.status_code == 200 and answer.json()["data"],
    )
    assert found.json()["data"][0]["action"] == "api_key.create"


@pytest.mark.req("PR-034")
async def test_dead_jobs_are_listed_redriven_and_forgotten_by_their_owners_only(platform):
    acme, beta = await platform.tenant("acme"), await platform.tenant("beta")
    queue = JobQueue(platform.bus, f"edge-test-{platform.edge.service.name}", max_deliver=1, ack_wait_s=1)
    stop, ran = asyncio.Event(), []

    async def failing(job) -> None:
        ran.append(job.key)
        raise PlatformError.invalid("x", "never")

    working = asyncio.create_task(queue.work(failing, 1, stop))
    await queue.enqueue("kind", b"secret", key="one", principal=service_principal("edge", "acme"))
    path = f"/v1/admin/jobs?queue={queue.name}"
    listed = await until(
        lambda: platform.http.get(path, headers=acme),
        lambda answer: answer.status_code == 200 and answer.json()["data"],
    )
    job = listed.json()["data"][0]
    assert (job["tenant_id"], job["key"], job["status"], job["error"]) == ("acme", "one", "dead", "INVALID_ARGUMENT")
    assert "secret" not in listed.text
    assert (await platform.http.get(path, headers=beta)).json()["data"] == []
    foreign = await platform.http.post(f"/v1/admin/jobs/{job['id']}/redrive", headers=beta)
    assert foreign.status_code == 404
    assert len((await platform.http.get(path, headers=ROOT)).json()["data"]) == 1
    again = await platform.http.post(f"/v1/admin/jobs/{job['id']}/redrive", headers=acme)
    assert (again.status_code, again.json()["status"]) == (200, "queued")
    second = await until(
        lambda: platform.http.get(path, headers=acme), lambda answer: answer.json()["data"] and len(ran) == 2
    )
    forgotten = await platform.http.delete(f"/v1/admin/jobs/{second.json()['data'][0]['id']}", headers=acme)
    assert forgotten.json()["deleted"] is True
    stop.set()
    await working


@pytest.mark.req("FR-030")
async def test_readiness_names_the_services_that_are_away(platform):
    found = await until(
        lambda: platform.http.get("/health/ready"),
        lambda answer: (
            {"integration", "orchestrator"}
            <= {entry["name"] for entry in answer.json()["dependencies"] if entry["status"] == "down"}
        ),
    )
    assert (found.status_code, found.json()["status"]) == (200, "degraded")
    assert all(entry["impact"] for entry in found.json()["dependencies"] if entry["status"] == "down")


async def test_the_partner_port_wants_a_key_and_tells_its_health_without(platform):
    acme = await platform.tenant("acme")
    async with grpc.aio.insecure_channel(platform.edge.public.address) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        codes = []
        for metadata in ((), (("authorization", "Bearer nope"),), (("authorization", acme["authorization"]),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ListModels(chat_service_pb2.ListModelsRequest(), metadata=metadata)
            codes.append(caught.value.code().name)
        assert codes == ["UNAUTHENTICATED", "UNAUTHENTICATED", "UNAVAILABLE"], "the last one: integration is away"


async def test_without_control_known_keys_go_on_and_revoked_and_unknown_ones_do_not(platform):
    acme, beta = await platform.tenant("acme"), await platform.tenant("beta")
    gone = await platform.http.delete(f"/v1/admin/api-keys/{beta['x-key-id']}?tenant_id=beta", headers=ROOT)
    assert gone.status_code == 200, gone.text
    await platform.control.drain(0)
    assert (await platform.http.get("/v1/threads", headers=acme)).status_code == 200
    assert (await platform.http.get("/v1/threads", headers=beta)).status_code == 401
    assert (await platform.http.get("/v1/threads", headers={"authorization": "Bearer nobody"})).status_code == 401
    away = await platform.http.get("/v1/admin/tenants", headers=acme)
    assert (away.status_code, away.json()["error"]["code"]) == (503, "dependency_unavailable")
