"""/v1/admin/audit: what was done and refused. Events are written by the services; here they are only read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel

from edge.api.admin_http import Caller, Listing, Page, TenantId, document, listing, moment, stamp, tenant_of
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import audit_service_pb2 as pb

_DECISIONS: dict[int, Literal["allow", "deny"]] = {pb.AUDIT_DECISION_ALLOW: "allow", pb.AUDIT_DECISION_DENY: "deny"}


class AuditEvent(BaseModel):
    """One thing that was done, or refused. Hashes are SHA-256, hex; money is millionths of a US dollar."""

    id: str
    object: Literal["audit_event"] = "audit_event"
    time: datetime | None
    tenant_id: str
    workspace_id: str
    subject: str
    act_for: str
    action: str
    resource_type: str
    resource_id: str
    decision: Literal["allow", "deny"] | None
    rule_ids: list[str]
    input_hash: str
    output_hash: str
    cost_micros: int
    latency_ms: int
    outcome: str
    trace_id: str
    request_id: str
    service: str
    details: dict[str, Any]


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/audit", tags=["admin: audit"])
    control = ControlPlane.of(deps)

    @routes.get("", response_model=Listing[AuditEvent], summary="List audit events, newest first")
    async def index(
        page: Page,
        request: Request,
        response: Response,
        who: Caller,
        tenant_id: TenantId = "",
        action: Annotated[str, Query(max_length=200, description='Action, or a prefix that ends in "*".')] = "",
        subject: Annotated[str, Query(max_length=300, description="Who did it.")] = "",
        resource_id: Annotated[str, Query(max_length=300, description="Thing acted on.")] = "",
        start_time: Annotated[AwareDatetime | None, Query(description="From then on, RFC 3339.")] = None,
        end_time: Annotated[AwareDatetime | None, Query(description="Before then, RFC 3339.")] = None,
    ) -> object:
        asked = pb.ListAuditEventsRequest(
            tenant_id=tenant_of(who, tenant_id),
            action=action,
            subject=subject,
            resource_id=resource_id,
            start_time=stamp(start_time),
            end_time=stamp(end_time),
            page_size=page.limit,
            page_token=page.after,
        )
        found = await control.read(control.audit.ListAuditEvents, asked)
        return listing(request, response, [_shown(event) for event in found.events], found.next_page_token)

    return routes


def _shown(event: pb.AuditEvent) -> AuditEvent:
    return AuditEvent(
        id=event.event_id,
        time=moment(event.time),
        tenant_id=event.tenant_id,
        workspace_id=event.workspace_id,
        subject=event.subject,
        act_for=event.act_for,
        action=event.action,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        decision=_DECISIONS.get(event.decision),
        rule_ids=list(event.rule_ids),
        input_hash=event.input_hash,
        output_hash=event.output_hash,
        cost_micros=event.cost_micros,
        latency_ms=event.latency_ms,
        outcome=event.outcome,
        trace_id=event.trace_id,
        request_id=event.request_id,
        service=event.service,
        details=document(event.details_json),
    )
