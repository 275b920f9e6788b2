"""AuditService."""

from __future__ import annotations

from typing import Any

from control import fields
from control.audit import AuditLog
from control.service.convert import Page, moment, stamp, tenant_of
from control.store import AuditEntry, AuditFilter
from fastchat.control.v1 import audit_service_pb2 as pb
from fastchat.control.v1 import audit_service_pb2_grpc as rpc


class AuditServicer(rpc.AuditServiceServicer):
    """The audit log."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def AppendAuditEvents(
        self, request: pb.AppendAuditEventsRequest, context: Any
    ) -> pb.AppendAuditEventsResponse:
        """AppendAuditEvents stores events. Safe to repeat: an event id is stored once."""
        return pb.AppendAuditEventsResponse(stored=await self._log.append(request.events))

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Any) -> pb.ListAuditEventsResponse:
        """ListAuditEvents lists events, newest first."""
        page = Page(request, 2)
        wanted = AuditFilter(
            action=request.action,
            subject=request.subject,
            resource_id=request.resource_id,
            start=moment(request, "start_time"),
            end=moment(request, "end_time"),
        )
        rows = await self._log.list(tenant_of(request.tenant_id), wanted, fields.page_key(page.after), page.limit)
        found, token = page.cut(rows, lambda row: (row.time.isoformat(), row.event_id))
        return pb.ListAuditEventsResponse(events=[_event(row) for row in found], next_page_token=token)


def _event(row: AuditEntry) -> pb.AuditEvent:
    return pb.AuditEvent(
        event_id=row.event_id,
        time=stamp(row.time),
        tenant_id=row.tenant_id,
        workspace_id=row.workspace_id,
        subject=row.subject,
        act_for=row.act_for,
        action=row.action,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        decision=pb.AuditDecision.ValueType(row.decision),
        rule_ids=row.rule_ids,
        input_hash=row.input_hash,
        output_hash=row.output_hash,
        cost_micros=row.cost_micros,
        latency_ms=row.latency_ms,
        outcome=row.outcome,
        trace_id=row.trace_id,
        request_id=row.request_id,
        service=row.service,
        details_json=row.details,
    )
