"""The audit log (PR-029, 11.3): events of all services, stored once each, read by administrators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from control.access import Access
from control.changes import Changes
from control.store import AuditEntry, AuditFilter
from control.store import audit as rows
from control.tenants import require_tenant
from fastchat.control.v1.audit_service_pb2 import AuditEvent
from kit.errors import PlatformError
from kit.ids import new_uuid

MOST_EVENTS: Final = 500
_LENGTHS: Final = {
    "event_id": 64,
    "tenant_id": 64,
    "workspace_id": 64,
    "subject": 256,
    "act_for": 256,
    "action": 128,
    "resource_type": 64,
    "resource_id": 256,
    "input_hash": 64,
    "output_hash": 64,
    "outcome": 64,
    "trace_id": 64,
    "request_id": 128,
    "service": 64,
}
_REQUIRED: Final = ("event_id", "subject", "action")
_MAXIMUM_DETAILS: Final = 16_384
_UNKNOWN: Final = "unknown"
_INT64: Final = 2**63 - 1


class AuditLog:
    """Stores and lists events."""

    def __init__(self, changes: Changes, access: Access) -> None:
        self._changes = changes
        self._access = access

    async def append(self, events: Sequence[AuditEvent]) -> int:
        """Store a service's events; returns how many were new. INVALID_ARGUMENT stores none of them."""
        self._access.service()
        if not 0 < len(events) <= MOST_EVENTS:
            raise PlatformError.invalid("events", f"Must be 1 to {MOST_EVENTS} events.")
        return await self.store([entry_of(event, f"events[{index}]") for index, event in enumerate(events)])

    async def store(self, entries: Sequence[AuditEntry]) -> int:
        """Store entries that are not stored yet; returns how many those were."""
        async with self._changes.open("") as change:
            return await rows.append(change.unit, entries)

    async def list(
        self, tenant_id: str, wanted: AuditFilter, after: tuple[datetime, str] | None, limit: int
    ) -> list[AuditEntry]:
        """Events of a tenant, newest first, after a page key."""
        await self._access.read("audit", tenant_id)
        told = (wanted.action, wanted.subject, wanted.resource_id, *((after[1],) if after else ()))
        if any("\x00" in text for text in told):
            return []
        async with self._changes.read(tenant_id) as unit:
            await require_tenant(unit, tenant_id)
            return await rows.page(unit, tenant_id, wanted, after, limit)


def entry_of(event: AuditEvent, field: str = "event") -> AuditEntry:
    """The event as a row. INVALID_ARGUMENT for a field that is missing or too long."""
    for name in _REQUIRED:
        if not getattr(event, name):
            raise PlatformError.invalid(f"{field}.{name}", "Required.")
    for name, maximum in _LENGTHS.items():
        value = getattr(event, name)
        if len(value) > maximum or "\x00" in value:
            raise PlatformError.invalid(f"{field}.{name}", f"Must be at most {maximum} characters, without NUL.")
    if not event.HasField("time"):
        raise PlatformError.invalid(f"{field}.time", "Required.")
    return AuditEntry(
        **{name: getattr(event, name) for name in _LENGTHS},
        time=_moment(event, f"{field}.time"),
        decision=int(event.decision),
        rule_ids=list(event.rule_ids),
        cost_micros=min(event.cost_micros, _INT64),
        latency_ms=event.latency_ms,
        details=_details(event.details_json, f"{field}.details_json"),
    )


def clipped(event: AuditEvent) -> AuditEntry:
    """The event as a row, made to fit: one that was recorded must be stored, whatever is odd about it."""
    kept = AuditEvent()
    kept.CopyFrom(event)
    for name, maximum in _LENGTHS.items():
        setattr(kept, name, getattr(event, name).replace("\x00", "")[:maximum])
    kept.event_id = kept.event_id or new_uuid()
    kept.subject, kept.action = kept.subject or _UNKNOWN, kept.action or _UNKNOWN
    if not _is_moment(event):
        kept.time.GetCurrentTime()
    try:
        _details(kept.details_json, "details_json")
    except PlatformError:
        kept.ClearField("details_json")
    return entry_of(kept)


def _is_moment(event: AuditEvent) -> bool:
    try:
        return event.HasField("time") and bool(_moment(event, "time"))
    except PlatformError:
        return False


def _moment(event: AuditEvent, field: str) -> datetime:
    try:
        return event.time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise PlatformError.invalid(field, "Not a time.") from error


def _details(text: str, field: str) -> str:
    if not text:
        return ""
    if len(text) > _MAXIMUM_DETAILS:
        raise PlatformError.invalid(field, f"Must be at most {_MAXIMUM_DETAILS} characters.")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise PlatformError.invalid(field, "Not JSON.") from error
    if not isinstance(document, dict):
        raise PlatformError.invalid(field, "Must be a JSON object.")
    return orjson.dumps(document).decode()
