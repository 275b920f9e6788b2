"""Audit events are never dropped: not by a bus that is away, a process that dies, nor a spool that is full."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.audit_service_pb2 import AuditDecision, AuditEvent
from kit.audit import Audit, audit_queue, events_of
from kit.audit.spool import Spool
from kit.bus import Bus, BusConfig
from kit.errors import PlatformError, Reason
from kit.jobs import Job
from kit.policy import Decision
from kit.principal import acting_as
from tests.support.nats import nats_server
from tests.unit.kit_data.waiting import until

pytestmark = pytest.mark.req("PR-029")
WHO = Principal(tenant_id="t", workspace_id="w", subject="key:1", act_for="user:2")


async def arrived(bus: Bus, enough: Callable[[list[AuditEvent]], bool]) -> list[AuditEvent]:
    """Events that control's consumer gets, until they are enough."""
    events: list[AuditEvent] = []

    async def store(job: Job) -> None:
        events.extend(events_of(job))

    stop = asyncio.Event()
    worker = asyncio.create_task(audit_queue(bus).work(store, 1, stop))
    await until(lambda: enough(events))
    stop.set()
    await worker
    return events


async def test_an_event_tells_who_did_what_without_the_content(tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as server:
        bus = await Bus.connect(BusConfig(url=server.url))
        async with Audit(bus, tmp_path / "spool", "integration") as audit:
            with acting_as(WHO):
                await audit.record(
                    action="model.call",
                    resource_type="model",
                    resource_id="gpt",
                    decision=Decision(True, ("builtin.member",)),
                    input=b"the prompt",
                    output=b"the answer",
                    cost_micros=12,
                    latency_ms=34,
                    details={"tokens": 5},
                )
            (event,) = await arrived(bus, bool)
        await bus.close()
    assert (event.tenant_id, event.workspace_id, event.subject, event.act_for) == ("t", "w", "key:1", "user:2")
    assert (event.action, event.resource_type, event.resource_id) == ("model.call", "model", "gpt")
    assert (event.decision, list(event.rule_ids)) == (AuditDecision.AUDIT_DECISION_ALLOW, ["builtin.member"])
    assert event.input_hash == hashlib.sha256(b"the prompt").hexdigest()
    assert b"the prompt" not in event.SerializeToString()
    assert (event.cost_micros, event.latency_ms, event.outcome, event.service) == (12, 34, "ok", "integration")
    assert (event.details_json, event.time.seconds > 0) == ('{"tokens": 5}', True)


async def test_events_wait_for_a_bus_that_is_away(tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as server:
        bus = await Bus.connect(BusConfig(url=server.url, request_timeout_s=0.2))
        server.kill()
        await until(lambda: not bus.connected)
        async with Audit(bus, tmp_path / "spool", "edge") as audit:
            made = [(await audit.record(action=f"a{n}", principal=WHO)).event_id for n in range(500)]
            await asyncio.to_thread(server.start)
            await until(lambda: bus.connected)
            events = await arrived(bus, lambda got: len(got) >= 500)
        await bus.close()
    assert [event.event_id for event in events] == made


async def test_what_a_dead_process_left_is_carried_by_the_next(tmp_path: Path) -> None:
    dying = Audit(None, tmp_path / "spool", "edge")
    await dying.record(action="left", principal=WHO)
    dying._spool.close()
    with nats_server(tmp_path / "nats") as server:
        bus = await Bus.connect(BusConfig(url=server.url))
        async with Audit(bus, tmp_path / "spool", "edge"):
            (event,) = await arrived(bus, bool)
        await bus.close()
    assert event.action == "left"
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_full_spool_waits_and_then_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.audit.client._FULL_S", 0.05)
    audit = Audit(None, tmp_path, "edge", limit_bytes=100)
    with pytest.raises(PlatformError) as caught:
        await audit.record(action="x" * 200, principal=WHO)
    await audit.close()
    assert (caught.value.reason, caught.value.metadata) == (Reason.STORAGE_UNAVAILABLE, {"store": "audit"})


async def test_a_full_spool_takes_more_once_the_bus_has_taken_some(tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as server:
        bus = await Bus.connect(BusConfig(url=server.url))
        async with Audit(bus, tmp_path / "spool", "edge", limit_bytes=2_000) as audit:
            for n in range(50):
                await audit.record(action=f"a{n}", principal=WHO)
            assert len(await arrived(bus, lambda got: len(got) >= 50)) == 50
        await bus.close()


def test_processes_share_a_spool_folder_without_touching_each_others_files(tmp_path: Path) -> None:
    first = Spool(tmp_path, 1_000_000)
    first.append(b"1")
    second = Spool(tmp_path, 1_000_000)
    assert second.empty
    second.append(b"2")
    first.close()
    third = Spool(tmp_path, 1_000_000)
    assert [event for segment in third.segments() for event in third.read(segment)] == [b"1"]
    second.close()
    third.close()


def test_a_torn_event_does_not_hide_those_before_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000_000)
    for event in (b"one", b"two", b"three"):
        spool.append(event)
    (segment,) = spool.segments()
    segment.write_bytes(segment.read_bytes()[:-2])
    assert list(spool.read(segment)) == [b"one", b"two"]
    spool.close()
