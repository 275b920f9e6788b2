"""The audit log: appended once each, listed by filters, fed from the stream; and the scopes of erasure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control.audit import clipped
from fastchat.common.v1 import scope_service_pb2 as scope_pb
from fastchat.control.v1 import api_key_service_pb2 as keys_pb
from fastchat.control.v1 import audit_service_pb2 as pb
from fastchat.control.v1 import tenant_service_pb2 as tenants_pb
from kit.audit import Audit
from kit.errors import Reason
from kit.ids import new_uuid
from kit.policy import Decision
from tests.unit.control.running import EDGE, Control, Stubs, admin_of, refused, serving

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def _event(number: int = 0, tenant_id: str = "acme", **more: Any) -> pb.AuditEvent:
    time = Timestamp()
    time.FromDatetime(_BEGIN + timedelta(minutes=number))
    told = {"event_id": new_uuid(), "time": time, "subject": "key:a", "action": "model.call", **more}
    return pb.AuditEvent(tenant_id=tenant_id, **told)


async def _append(control: Control, *events: pb.AuditEvent) -> int:
    answer = await control.acting(EDGE).audit.AppendAuditEvents(pb.AppendAuditEventsRequest(events=events))
    return int(answer.stored)


async def _list(stubs: Stubs, tenant_id: str, **wanted: Any) -> list[pb.AuditEvent]:
    answer = await stubs.audit.ListAuditEvents(pb.ListAuditEventsRequest(tenant_id=tenant_id, **wanted))
    return list(answer.events)


@pytest.mark.req("PR-029")
async def test_an_event_is_stored_once_however_often_it_comes(control: Control) -> None:
    acme = await control.tenant("acme")
    event = _event(
        resource_type="model",
        resource_id="gpt-4o",
        decision=pb.AUDIT_DECISION_ALLOW,
        rule_ids=["builtin.member"],
        input_hash="a" * 64,
        cost_micros=2**63,
        latency_ms=2**32 - 1,
        outcome="ok",
        trace_id="b" * 32,
        details_json='{"legs":1}',
    )
    assert await _append(control, event, event) == 1
    assert await _append(control, event, _event(1)) == 1
    found = await _list(acme, "acme", action="model.call")
    event.cost_micros = 2**63 - 1
    assert found[1] == event
    assert len(found) == 2


@pytest.mark.req("PR-029")
async def test_events_are_listed_newest_first_by_filters_and_pages(control: Control) -> None:
    acme = await control.tenant("acme")
    actions = ["model.call", "model.list", "mode%.call", "tool.call"]
    events = [_event(number, action=actions[number % 4], subject=f"key:{number % 2}") for number in range(8)]
    await _append(control, *events)
    assert [event.action for event in await _list(acme, "acme", action="tool.call")] == ["tool.call"] * 2
    assert len(await _list(acme, "acme", action="model.*")) == 4
    assert len(await _list(acme, "acme", action="mode%*")) == 2
    assert {event.subject for event in await _list(acme, "acme", subject="key:1")} == {"key:1"}
    window = await _list(acme, "acme", start_time=events[2].time, end_time=events[5].time)
    assert [event.event_id for event in window] == [events[number].event_id for number in (4, 3, 2)]
    found, token = [], ""
    while True:
        request = pb.ListAuditEventsRequest(tenant_id="acme", action="m*", page_size=2, page_token=token)
        page = await acme.audit.ListAuditEvents(request)
        found += [event.event_id for event in page.events]
        token = page.next_page_token
        if not token:
            break
    assert found == [event.event_id for event in events[::-1] if event.action.startswith("m")]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (_event(event_id=""), "events[0].event_id"),
        (_event(subject=""), "events[0].subject"),
        (_event(action="x" * 129), "events[0].action"),
        (_event(time=None), "events[0].time"),
        (_event(time=Timestamp(seconds=2**62)), "events[0].time"),
        (_event(details_json="[1]"), "events[0].details_json"),
        (_event(details_json="{"), "events[0].details_json"),
    ],
)
def test_a_wrong_event_is_refused_by_the_rpc_and_made_to_fit_by_the_stream(event: pb.AuditEvent, field: str) -> None:
    from control.audit import entry_of

    with refused(Reason.INVALID_ARGUMENT, field=field):
        entry_of(event, "events[0]")
    stored = clipped(event)
    assert stored.event_id
    assert stored.subject
    assert len(stored.action) <= 128


async def test_appending_is_for_services_and_bounded(control: Control) -> None:
    with refused(Reason.POLICY_DENIED, rule="services-only"):
        await control.acting().audit.AppendAuditEvents(pb.AppendAuditEventsRequest(events=[_event()]))
    with refused(Reason.INVALID_ARGUMENT, field="events"):
        await _append(control, *(_event(number) for number in range(501)))


@pytest.mark.req("PR-029")
async def test_what_administrators_change_and_are_refused_is_recorded(control: Control) -> None:
    acme = await control.tenant("acme")
    made = await acme.keys.CreateApiKey(keys_pb.CreateApiKeyRequest(tenant_id="acme", name="CI"))
    await acme.keys.RevokeApiKey(keys_pb.RevokeApiKeyRequest(tenant_id="acme", id=made.api_key.id))
    operator = control.acting(admin_of("acme", role="operator"))
    with refused(Reason.POLICY_DENIED):
        await operator.tenants.UpdateTenant(tenants_pb.UpdateTenantRequest(id="acme", name="x"))
    found = await _list(acme, "acme")
    assert [event.action for event in found] == [
        "admin.tenant.write",
        "api_key.revoke",
        "api_key.create",
        "tenant.create",
    ]
    assert [event.decision for event in found] == [pb.AUDIT_DECISION_DENY, *[pb.AUDIT_DECISION_ALLOW] * 3]
    assert found[0].subject == operator.principal.subject
    assert found[2].resource_id == made.api_key.id
    assert made.key not in str(found)


@pytest.mark.req("PR-030")
async def test_a_tenant_reads_its_own_log_only(control: Control) -> None:
    acme = await control.tenant("acme")
    await control.tenant("rival")
    await _append(control, _event(tenant_id="rival"))
    assert not await _list(acme, "acme", action="model.call")
    with refused(Reason.POLICY_DENIED, rule="tenant-guard"):
        await _list(acme, "rival")


@pytest.mark.req("PR-029")
async def test_events_of_services_come_in_over_the_stream(tmp_path: Path, nats_url: str) -> None:
    async with serving(tmp_path, nats=nats_url) as control:
        audit = Audit(control.mesh.bus, tmp_path / "spool", "edge")
        subject = f"key:{new_uuid()}"
        await audit.record(
            action="chat.create",
            decision=Decision(True, ("builtin.member",)),
            input=b"secret text",
            principal=admin_of("default"),
            details={"subject": subject},
        )
        await audit.flush()
        await audit.close()
        found: list[pb.AuditEvent] = []
        while not found:
            found = [
                event
                for event in await _list(control.acting(), "default", action="chat.create")
                if json.loads(event.details_json).get("subject") == subject
            ]
    assert list(found[0].rule_ids) == ["builtin.member"]
    assert found[0].service == "edge"


@pytest.mark.req("PR-028")
async def test_a_scope_is_exported_erased_and_withdrawn(control: Control) -> None:
    acme, rival = await control.tenant("acme"), await control.tenant("rival")
    await control.key("acme", subject="person-1")
    await control.key("acme", subject="person-2")
    await control.model("acme", "own")
    one = scope_pb.Scope(tenant_id="acme", subject="person-1")
    rows = await acme.scope.ExportScope(scope_pb.ExportScopeRequest(scope=one))
    assert [row.table for row in rows] == ["control.api_keys"]
    dry = await acme.scope.EraseScope(scope_pb.EraseScopeRequest(scope=one, dry_run=True))
    assert dry.rows["control.api_keys"] == 1
    await acme.scope.EraseScope(scope_pb.EraseScopeRequest(scope=one))
    listed = (await acme.keys.ListApiKeys(keys_pb.ListApiKeysRequest(tenant_id="acme"))).api_keys
    assert [key.subject for key in listed] == ["person-2"]
    whole = scope_pb.Scope(tenant_id="acme")
    with refused(Reason.POLICY_DENIED, rule="tenant-guard"):
        await rival.scope.EraseScope(scope_pb.EraseScopeRequest(scope=whole))
    with refused(Reason.POLICY_DENIED, action="scope.erase"):
        operator = control.acting(admin_of("acme", role="operator"))
        await operator.scope.EraseScope(scope_pb.EraseScopeRequest(scope=whole))
    await control.acting().scope.EraseScope(scope_pb.EraseScopeRequest(scope=whole))
    assert not await control.acting().scope.ExportScope(scope_pb.ExportScopeRequest(scope=whole))
    assert (await _list(control.acting(), "default", action="scope.erase"))[0].resource_id == "acme"
