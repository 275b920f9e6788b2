"""WatchSettings: snapshot, changes in order, signs of life, acknowledgements; one replica and two."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control import watch as module
from fastchat.control.v1 import api_key_service_pb2 as keys_pb
from fastchat.control.v1 import settings_service_pb2 as pb
from fastchat.control.v1 import tenant_service_pb2 as tenants_pb
from fastchat.control.v1.settings_service_pb2_grpc import SettingsServiceStub
from kit.channel import calling
from kit.db.migrate import upgrade
from kit.errors import PlatformError, Reason
from kit.principal import acting_as
from kit.settings import SettingsCache, watch_settings
from kit.telemetry import metrics
from tests.unit.control.running import EDGE, PLATFORM, Control, refused, serving, watching
from tests.unit.control.waiting import until

_KEY = pb.ResourceKind.RESOURCE_KIND_API_KEY


class Watcher:
    """A raw watcher, to see what is on the wire."""

    def __init__(self, call: object, requests: asyncio.Queue[pb.WatchSettingsRequest]) -> None:
        self._call = call
        self._requests = requests

    async def next(self) -> pb.WatchSettingsResponse:
        """The next batch."""
        async with asyncio.timeout(10):
            batch = await self._call.read()  # type: ignore[attr-defined]
        assert isinstance(batch, pb.WatchSettingsResponse)
        return batch

    async def next_change(self) -> pb.WatchSettingsResponse:
        """The next batch that holds something."""
        while True:
            batch = await self.next()
            if batch.resources:
                return batch

    def acknowledge(self, revision: int) -> None:
        """Say what was applied."""
        self._requests.put_nowait(pb.WatchSettingsRequest(revision=revision))


@asynccontextmanager
async def _watch(
    control: Control, revision: int = 0, watcher: str = "edge/w1", kinds: tuple[pb.ResourceKind, ...] = ()
) -> AsyncIterator[Watcher]:
    requests: asyncio.Queue[pb.WatchSettingsRequest] = asyncio.Queue()
    requests.put_nowait(pb.WatchSettingsRequest(watcher=watcher, kinds=kinds, revision=revision))

    async def sent() -> AsyncIterator[pb.WatchSettingsRequest]:
        while True:
            yield await requests.get()

    with acting_as(EDGE), calling("control"):
        call = SettingsServiceStub(control.mesh.channel("control")).WatchSettings(sent())
        try:
            yield Watcher(call, requests)
        finally:
            call.cancel()


async def test_first_a_snapshot_then_each_change(control: Control) -> None:
    async with _watch(control) as watcher:
        snapshot = await watcher.next()
        assert snapshot.snapshot
        kinds = {resource.kind for resource in snapshot.resources}
        assert kinds == {1, 2, 3, 4, 5, 6}
        made = await control.model("", "best")
        change = await watcher.next_change()
        assert not change.snapshot
        assert [(resource.name, resource.revision) for resource in change.resources] == [("best", made.revision)]
        assert change.revision == made.revision > snapshot.revision


async def test_a_watcher_goes_on_from_where_it_was(control: Control) -> None:
    async with _watch(control) as watcher:
        known = (await watcher.next()).revision
    await control.model("", "one")
    await control.model("", "two")
    async with _watch(control, known) as watcher:
        change = await watcher.next_change()
        assert not change.snapshot
        assert [resource.name for resource in change.resources] == ["one", "two"]


@pytest.mark.parametrize("revision", [1, 2**63])
async def test_a_watcher_of_another_past_or_future_gets_a_snapshot(control: Control, revision: int) -> None:
    async with _watch(control, revision) as watcher:
        assert (await watcher.next()).snapshot


async def test_only_the_kinds_asked_for_are_told(control: Control) -> None:
    async with _watch(control, kinds=(_KEY,)) as watcher:
        snapshot = await watcher.next()
        assert {resource.kind for resource in snapshot.resources} == {_KEY}
        await control.model("", "best")
        made = await control.key("default")
        change = await watcher.next_change()
        assert [resource.kind for resource in change.resources] == [_KEY]
        assert change.revision == made.revision


async def test_control_gives_a_sign_of_life_every_second(sqlite_control: Control) -> None:
    async with _watch(sqlite_control) as watcher:
        snapshot = await watcher.next()
        beats = [await watcher.next() for _ in range(2)]
        assert {beat.revision for beat in beats} == {snapshot.revision}
        assert 0.5 < (beats[1].time.ToNanoseconds() - beats[0].time.ToNanoseconds()) / 1e9 < 2.5


async def test_what_watchers_have_applied_is_a_metric_while_they_are_connected(control: Control) -> None:
    name = "fastchat_settings_acknowledged_revision"
    label = {"watcher": "edge/metric"}
    async with _watch(control, watcher="edge/metric") as watcher:
        revision = (await watcher.next()).revision
        watcher.acknowledge(revision)
        await until(lambda: metrics.registry.get_sample_value(name, label) == revision)
    await until(lambda: metrics.registry.get_sample_value(name, label) is None)


@pytest.mark.parametrize("watcher", ["", "edge", "edge/a b", "edge/" + "x" * 65])
async def test_a_watcher_says_who_it_is(sqlite_control: Control, watcher: str) -> None:
    with refused(Reason.INVALID_ARGUMENT, field="watcher"):
        async with _watch(sqlite_control, watcher=watcher) as stream:
            await stream.next()


async def test_watching_is_for_services(sqlite_control: Control) -> None:
    with refused(Reason.POLICY_DENIED, rule="services-only"), acting_as(PLATFORM), calling("control"):
        call = SettingsServiceStub(sqlite_control.mesh.channel("control")).WatchSettings(
            iter([pb.WatchSettingsRequest(watcher="edge/x")])
        )
        await call.read()


async def test_a_large_snapshot_comes_in_parts(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 3)
    for number in range(7):
        await control.model("", f"m{number}")
    cache = SettingsCache()
    async with watching(control, watch_settings, cache):
        await until(lambda: cache.revision > 0)
        names = [resource.name for resource in cache.resources(pb.ResourceKind.RESOURCE_KIND_MODEL, "")]
    assert names == [*(f"m{number}" for number in range(7)), "offline"]


async def test_a_batch_of_changes_is_bounded(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _watch(control) as watcher:
        known = (await watcher.next()).revision
    for number in range(5):
        await control.model("", f"m{number}")
    monkeypatch.setattr(module, "_BYTES", 1)
    async with _watch(control, known) as watcher:
        batches = [await watcher.next_change() for _ in range(5)]
    assert [[resource.name for resource in batch.resources] for batch in batches] == [[f"m{n}"] for n in range(5)]
    assert [batch.revision for batch in batches] == [batch.resources[0].revision for batch in batches]


@pytest.mark.req("11.1")
async def test_a_revocation_is_told_within_a_second(control: Control) -> None:
    made = await control.key("default")
    cache = SettingsCache()
    async with watching(control, watch_settings, cache):
        await until(lambda: cache.revision >= made.revision)
        known = {resource.name: resource for resource in cache.resources(_KEY, "default")}
        mine = next(name for name, resource in known.items() if json.loads(resource.body_json)["id"] == made.api_key.id)
        revoked = await control.acting().keys.RevokeApiKey(
            keys_pb.RevokeApiKeyRequest(tenant_id="default", id=made.api_key.id)
        )
        assert await cache.wait_for(revoked.revision, 1.0)
        assert cache.get(_KEY, "default", mine) is None


async def test_a_removed_tenant_leaves_nothing_behind_at_its_watchers(control: Control) -> None:
    acme = await control.tenant("acme")
    await acme.keys.CreateApiKey(keys_pb.CreateApiKeyRequest(tenant_id="acme"))
    await control.model("acme", "own")
    cache = SettingsCache()
    async with watching(control, watch_settings, cache):
        await until(lambda: bool(cache.resources(_KEY, "acme")))
        gone = await control.acting().tenants.DeleteTenant(tenants_pb.DeleteTenantRequest(id="acme"))
        assert await cache.wait_for(gone.revision, 2.0)
        assert not [resource for kind in range(1, 7) for resource in cache.resources(kind, "acme")]  # type: ignore[arg-type]


async def test_what_was_removed_long_ago_is_forgotten_and_a_late_watcher_gets_a_snapshot(
    tmp_path: Path, database_url: str
) -> None:
    async with serving(tmp_path, url=database_url) as control:
        async with _watch(control) as watcher:
            known = (await watcher.next()).revision
        made = (await control.key("default")).api_key
        await control.acting().keys.RevokeApiKey(keys_pb.RevokeApiKeyRequest(tenant_id="default", id=made.id))
        async with _watch(control, known) as watcher:
            assert [resource.deleted for resource in (await watcher.next_change()).resources] == [True]
    async with serving(tmp_path, url=database_url, env={"FASTCHAT_CONTROL__TOMBSTONES_S": "0.001"}) as control:
        async with asyncio.timeout(10):
            while not await _first_is_snapshot(control, known):
                pass


async def _first_is_snapshot(control: Control, known: int) -> bool:
    async with _watch(control, known) as watcher:
        return (await watcher.next()).snapshot


async def test_the_order_of_revisions_is_the_order_of_commits_with_two_replicas(
    tmp_path: Path, postgres_dsn: str, nats_url: str
) -> None:
    """Writers on both replicas, a watcher on each: no watcher is ever told a revision below one it was told before."""
    async with (
        serving(tmp_path / "one", url=postgres_dsn, nats=nats_url) as one,
        serving(tmp_path / "two", url=postgres_dsn, nats=nats_url) as two,
    ):
        seen: dict[str, list[int]] = {"one": [], "two": []}
        last = asyncio.Event()

        async def follow(name: str, control: Control) -> None:
            async with _watch(control, watcher=f"edge/{name}") as watcher:
                while not last.is_set() or len(set(seen[name])) < 41:
                    batch = await watcher.next()
                    if batch.snapshot:
                        seen[name].append(batch.revision)
                        continue
                    seen[name] += [resource.revision for resource in batch.resources]

        async def write(control: Control, prefix: str) -> None:
            for number in range(10):
                await control.model("", f"{prefix}{number}")

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            followers = [tasks.create_task(follow(name, control)) for name, control in (("one", one), ("two", two))]
            await until(lambda: all(seen.values()))
            async with asyncio.TaskGroup() as writers:
                for control, prefix in ((one, "a"), (one, "b"), (two, "c"), (two, "d")):
                    writers.create_task(write(control, prefix))
            last.set()
            del followers
        for told in seen.values():
            assert all(before < after for before, after in itertools.pairwise(told))
            assert len(told) == 41
        assert seen["one"][1:] == seen["two"][1:]


async def test_a_change_on_one_replica_is_told_by_the_other_without_nats(tmp_path: Path, postgres_dsn: str) -> None:
    async with (
        serving(tmp_path / "one", url=postgres_dsn) as one,
        serving(tmp_path / "two", url=postgres_dsn) as two,
    ):
        cache = SettingsCache()
        async with watching(two, watch_settings, cache):
            await until(lambda: cache.revision > 0)
            made = await one.model("", "best")
            assert await cache.wait_for(made.revision, 2.0)


async def test_a_second_replica_on_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kit.config import ConfigError
    from kit.db import migrate

    monkeypatch.setattr(migrate, "_LOCK_WAIT_S", 0.1)
    async with serving(tmp_path):
        with pytest.raises(ConfigError, match="second replica on SQLite"):
            async with serving(tmp_path):
                pass


async def test_streams_end_when_control_drains(tmp_path: Path) -> None:
    async with serving(tmp_path) as control, asyncio.timeout(8):
        drained = asyncio.create_task(_drained_while_watched(control))
        with pytest.raises((AssertionError, PlatformError)):
            await drained
        await control.hosting.drain(5)


async def _drained_while_watched(control: Control) -> None:
    """Reads until there is nothing more to read, which is an error for `next`."""
    async with _watch(control) as watcher:
        await watcher.next()
        drain = asyncio.create_task(control.hosting.drain(5))
        try:
            while True:
                await watcher.next()
        finally:
            await drain


async def test_migrations_may_be_run_again(tmp_path: Path, database_url: str) -> None:
    assert await upgrade("control", database_url, home=tmp_path) == "0001"
    assert await upgrade("control", database_url, home=tmp_path) == "0001"
