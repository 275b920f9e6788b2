"""The cache of what control pushed, its copy on disk, and the task that fills it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from fastchat.control.v1.settings_service_pb2 import (
    Resource,
    ResourceKind,
    WatchSettingsRequest,
    WatchSettingsResponse,
)
from fastchat.control.v1.settings_service_pb2_grpc import (
    SettingsServiceServicer,
    add_SettingsServiceServicer_to_server,
)
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache, last_known_good, watch_settings
from tests.unit.kit_data.waiting import until

KEY, SETTINGS = ResourceKind.RESOURCE_KIND_API_KEY, ResourceKind.RESOURCE_KIND_SETTINGS


def resource(
    name: str,
    revision: int = 1,
    tenant: str = "",
    workspace: str = "",
    *,
    kind: ResourceKind.ValueType = KEY,
    deleted: bool = False,
    **body: Any,
) -> Resource:
    return Resource(
        kind=kind,
        name=name,
        revision=revision,
        tenant_id=tenant,
        workspace_id=workspace,
        body_json=json.dumps(body),
        deleted=deleted,
    )


def batch(*resources: Resource, revision: int, snapshot: bool = False) -> WatchSettingsResponse:
    return WatchSettingsResponse(resources=resources, revision=revision, snapshot=snapshot)


def filled(*resources: Resource) -> SettingsCache:
    cache = SettingsCache()
    cache.apply(batch(*resources, revision=1, snapshot=True))
    return cache


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_resources_are_found_by_kind_owner_and_name() -> None:
    cache = filled(resource("b"), resource("a"), resource("c", tenant="t"), resource("d", tenant="t", workspace="w"))
    assert [found.name for found in cache.resources(KEY, "")] == ["a", "b"]
    assert [found.name for found in cache.resources(KEY, "t")] == ["c", "d"]
    assert cache.get(KEY, "t", "d", "w") is not None
    assert cache.get(KEY, "t", "d") is None


def test_changes_and_deletions_are_applied_in_order_of_revision() -> None:
    cache = filled(resource("a", 1, v=1))
    cache.apply(batch(resource("a", 3, v=3), revision=3))
    cache.apply(batch(resource("a", 2, v=2), revision=3))
    found = cache.get(KEY, "", "a")
    assert found is not None
    assert json.loads(found.body_json) == {"v": 3}
    cache.apply(batch(resource("a", 4, deleted=True), revision=4))
    assert cache.get(KEY, "", "a") is None
    assert (cache.revision, cache.resources(KEY, "")) == (4, [])


def test_a_snapshot_in_parts_replaces_everything_at_once() -> None:
    cache = filled(resource("old"), resource("kept"))
    heard: list[tuple[str, bool]] = []
    cache.on_change(lambda changed: heard.extend((one.name, one.deleted) for one in changed))
    cache.apply(WatchSettingsResponse(resources=[resource("kept"), resource("new1")]))
    assert [found.name for found in cache.resources(KEY, "")] == ["kept", "old"]
    cache.apply(batch(resource("new2"), revision=9, snapshot=True))
    assert [found.name for found in cache.resources(KEY, "")] == ["kept", "new1", "new2"]
    assert sorted(heard) == [("new1", False), ("new2", False), ("old", True)]


def test_effective_settings_merge_the_layers_of_the_scope() -> None:
    def layer(name: str, tenant: str = "", workspace: str = "", **limits: Any) -> Resource:
        return resource(name, 1, tenant, workspace, kind=SETTINGS, limits=limits)

    cache = filled(
        layer("environment", requests_per_minute=80),
        layer("defaults", requests_per_minute=100, max_output_tokens=50),
        layer("settings", "t", max_output_tokens=40),
        layer("settings", "t", "w", max_output_tokens=30),
        layer("settings", "other", requests_per_minute=1),
    )
    merged = cache.merged("t", "w", {"limits": {"requests_per_minute": 5}})
    assert merged.settings.limits.requests_per_minute == 5
    assert merged.settings.limits.max_output_tokens == 30
    assert merged.origins["limits.requests_per_minute"] == "key"
    assert cache.merged("t").origins["limits.requests_per_minute"] == "environment"
    assert cache.effective("t").limits.max_output_tokens == 40
    assert cache.effective("t") is cache.effective("t")


def test_a_change_is_seen_by_the_next_reader_of_settings() -> None:
    cache = filled(resource("settings", 1, "t", kind=SETTINGS, preferences={"events": "off"}))
    assert cache.effective("t").preferences.events == "off"
    cache.apply(batch(resource("settings", 2, "t", kind=SETTINGS, preferences={"events": "named"}), revision=2))
    assert cache.effective("t").preferences.events == "named"


def test_old_settings_are_refused_once_the_profile_says_so() -> None:
    clock = Clock()
    cache = SettingsCache(clock)
    with pytest.raises(PlatformError) as caught:
        cache.require_fresh()
    assert caught.value.reason is Reason.SETTINGS_STALE
    layer = resource("defaults", kind=SETTINGS, security={"max_staleness_s": 900})
    cache.apply(batch(layer, revision=1, snapshot=True))
    clock.now += 899
    cache.require_fresh()
    clock.now += 2
    with pytest.raises(PlatformError) as caught:
        cache.require_fresh()
    assert caught.value.metadata == {"age_s": "901", "max_s": "900"}
    cache.apply(batch(revision=1))  # a sign of life
    cache.require_fresh()


async def test_waiting_for_a_revision_ends_when_it_comes_or_the_time_is_over() -> None:
    cache = filled()
    assert await cache.wait_for(1)
    assert not await cache.wait_for(2, timeout_s=0.01)
    waiting = asyncio.create_task(cache.wait_for(2, timeout_s=5))
    await asyncio.sleep(0)
    cache.apply(batch(revision=2))
    assert await waiting


def test_the_state_survives_on_disk_with_its_age(tmp_path: Path) -> None:
    path = tmp_path / "edge" / "settings.pb"
    cache = filled(resource("a", v=1), resource("b", tenant="t"))
    last_known_good.save(path, cache.state(), heard_at=500.0)
    assert path.stat().st_mode & 0o777 == 0o600
    clock = Clock()
    again = SettingsCache(clock)
    saved = last_known_good.load(path)
    assert saved is not None
    again.restore(*saved)
    assert (again.age_s, again.revision) == (500.0, 1)
    assert again.get(KEY, "t", "b") is not None


def test_a_damaged_copy_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "settings.pb"
    assert last_known_good.load(path) is None
    last_known_good.save(path, filled(resource("a")).state(), 1.0)
    whole = path.read_bytes()
    for damaged in (b"", b"x", whole[:-1], whole[:60] + b"?" + whole[61:]):
        path.write_bytes(damaged)
        assert last_known_good.load(path) is None


class Control(SettingsServiceServicer):
    """A control plane of one snapshot, that changes on demand."""

    def __init__(self) -> None:
        self.subscriptions: list[WatchSettingsRequest] = []
        self.acknowledged: list[int] = []
        self.changes: asyncio.Queue[WatchSettingsResponse] = asyncio.Queue()

    async def WatchSettings(  # gRPC's name
        self, request_iterator: AsyncIterator[WatchSettingsRequest], context: Any
    ) -> AsyncIterator[WatchSettingsResponse]:
        self.subscriptions.append(await anext(request_iterator))
        reading = asyncio.create_task(self._hear(request_iterator))
        try:
            yield batch(resource("a"), revision=7, snapshot=True)
            while True:
                yield await self.changes.get()
        finally:
            reading.cancel()

    async def _hear(self, requests: AsyncIterator[WatchSettingsRequest]) -> None:
        async for request in requests:
            self.acknowledged.append(request.revision)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Control, str], Awaitable[grpc.aio.Server]]]:
    """Starts a control plane at an address; all are stopped at the end."""
    servers = []

    async def start(control: Control, address: str) -> grpc.aio.Server:
        server = grpc.aio.server()
        add_SettingsServiceServicer_to_server(control, server)
        server.add_insecure_port(address)
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop(None)


async def test_the_watch_applies_acknowledges_keeps_and_outlives_control(
    tmp_path: Path, serve: Callable[[Control, str], Awaitable[grpc.aio.Server]]
) -> None:
    address, path, control = f"unix:{tmp_path}/c.sock", tmp_path / "settings.pb", Control()
    server = await serve(control, address)
    cache = SettingsCache()
    async with grpc.aio.insecure_channel(address) as channel:
        watch = asyncio.create_task(watch_settings(channel, cache, path, "edge/1", [KEY]))
        assert await cache.wait_for(7, timeout_s=10)
        assert control.subscriptions[0] == WatchSettingsRequest(watcher="edge/1", kinds=[KEY], revision=0)
        control.changes.put_nowait(batch(resource("b", 8), revision=8))
        await until(lambda: control.acknowledged[-1:] == [8])
        await until(lambda: (saved := last_known_good.load(path)) is not None and saved[0].revision == 8)

        await server.stop(None)
        assert cache.get(KEY, "", "b") is not None
        revived = Control()
        await serve(revived, address)
        await until(lambda: bool(revived.subscriptions))
        assert revived.subscriptions[0].revision == 8
        watch.cancel()
        await asyncio.wait({watch})


async def test_a_service_starts_on_what_it_last_knew(tmp_path: Path) -> None:
    path, cache = tmp_path / "settings.pb", SettingsCache()
    last_known_good.save(path, filled(resource("a")).state(), 1.0)
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody.sock") as channel:
        watch = asyncio.create_task(watch_settings(channel, cache, path, "edge/1"))
        await until(lambda: cache.get(KEY, "", "a") is not None)
        watch.cancel()
        await asyncio.wait({watch})
