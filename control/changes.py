"""A change of configuration: rows, what services are told, and the audit event, in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson

from control.store import AuditEntry, Store, Unit
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.audit_service_pb2 import AuditDecision
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.db import utc_now
from kit.ids import new_uuid
from kit.principal import current
from kit.telemetry import current_request_id, current_trace_id

SERVICE = "control"


class Change:
    """One transaction that changes `owner`'s configuration ("" is the platform's)."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.revision = 0
        """Revision of the last thing told; 0 while nothing was."""

    async def tell(
        self,
        kind: ResourceKind.ValueType,
        tenant_id: str,
        name: str,
        body: Mapping[str, Any] | None,
        *,
        workspace_id: str = "",
        origin: str = "registry",
    ) -> int:
        """Tell services of a resource; None withdraws it. Returns the revision."""
        self.revision = await self.unit.tell(kind, tenant_id, name, body, workspace_id=workspace_id, origin=origin)
        return self.revision

    async def audit(
        self, action: str, resource_type: str, resource_id: str, owner: str, details: Mapping[str, Any] | None = None
    ) -> None:
        """Record what the caller did. `details` must hold no secrets. A platform row's change is the actor's to see."""
        await self.unit.add(audit_entry(current(), action, resource_type, resource_id, owner, details or {}))


class Changes:
    """Opens changes, and announces what they told once it is committed."""

    def __init__(self, store: Store, announce: Callable[[int], None]) -> None:
        self._store = store
        self._announce = announce

    @asynccontextmanager
    async def open(self, owner: str) -> AsyncIterator[Change]:
        """A change; committed when the block ends well."""
        async with self._store.write(owner) as unit:
            change = Change(unit)
            yield change
        if change.revision:
            self._announce(change.revision)

    def read(self, owner: str) -> AbstractAsyncContextManager[Unit]:
        """A transaction that only reads."""
        return self._store.read(owner)


def audit_entry(
    principal: Principal,
    action: str,
    resource_type: str,
    resource_id: str,
    owner: str,
    details: Mapping[str, Any],
    *,
    decision: AuditDecision.ValueType = AuditDecision.AUDIT_DECISION_ALLOW,
    rule_ids: tuple[str, ...] = (),
    outcome: str = "ok",
) -> AuditEntry:
    """An event about something that happens now."""
    return AuditEntry(
        tenant_id=owner or principal.tenant_id,
        event_id=new_uuid(),
        time=utc_now(),
        workspace_id=principal.workspace_id,
        subject=principal.subject,
        act_for=principal.act_for,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id[:256],
        decision=int(decision),
        rule_ids=list(rule_ids),
        cost_micros=0,
        latency_ms=0,
        outcome=outcome,
        trace_id=current_trace_id(),
        request_id=current_request_id()[:128],
        service=SERVICE,
        details=orjson.dumps(details).decode() if details else "",
    )
