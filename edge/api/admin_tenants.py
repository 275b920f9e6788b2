"""/v1/admin/tenants: making, changing and removing tenants needs the platform scope; reading one's own does not."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from edge.api.admin_http import (
    Body,
    Caller,
    Deleted,
    Id,
    Listing,
    Name,
    Page,
    Version,
    listing,
    moment,
    tenant_of,
    told,
)
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import tenant_service_pb2 as pb

Status = Literal["active", "suspended"]
STATUS: dict[int, Status] = {pb.LIFECYCLE_STATUS_ACTIVE: "active", pb.LIFECYCLE_STATUS_SUSPENDED: "suspended"}
NUMBER: dict[Status | None, pb.LifecycleStatus.ValueType] = {
    None: pb.LIFECYCLE_STATUS_UNSPECIFIED,
    "active": pb.LIFECYCLE_STATUS_ACTIVE,
    "suspended": pb.LIFECYCLE_STATUS_SUSPENDED,
}


class Tenant(BaseModel):
    """A tenant."""

    id: str
    object: Literal["tenant"] = "tenant"
    name: str
    status: Status
    created_at: datetime | None
    updated_at: datetime | None
    etag: str


class NewTenant(Body):
    """A tenant to make; it comes with the workspace `default`."""

    id: Id | None = None
    name: Name


class TenantChange(Body):
    """What to change; what is absent stays."""

    name: Name | None = None
    status: Status | None = None


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/tenants", tags=["admin: tenants"])
    control = ControlPlane.of(deps)

    @routes.post("", status_code=201, response_model=Tenant, summary="Make a tenant")
    async def create(body: NewTenant, request: Request, response: Response, who: Caller) -> object:
        who.require("platform")
        made = await control.write(
            control.tenants.CreateTenant, pb.CreateTenantRequest(id=body.id or "", name=body.name)
        )
        response.headers["location"] = f"/v1/admin/tenants/{made.tenant.id}"
        return told(request, response, _shown(made.tenant), made.tenant.etag)

    @routes.get("", response_model=Listing[Tenant], summary="List the tenants that the caller may see")
    async def index(page: Page, request: Request, response: Response) -> object:
        asked = pb.ListTenantsRequest(page_size=page.limit, page_token=page.after)
        found = await control.read(control.tenants.ListTenants, asked)
        return listing(request, response, [_shown(tenant) for tenant in found.tenants], found.next_page_token)

    @routes.get("/{tenant_id}", response_model=Tenant, summary="Read a tenant")
    async def read(tenant_id: str, request: Request, response: Response, who: Caller) -> object:
        asked = pb.GetTenantRequest(id=tenant_of(who, tenant_id))
        found = (await control.read(control.tenants.GetTenant, asked)).tenant
        return told(request, response, _shown(found), found.etag)

    @routes.patch("/{tenant_id}", response_model=Tenant, summary="Rename, suspend or reactivate a tenant")
    async def change(
        tenant_id: str, body: TenantChange, request: Request, response: Response, who: Caller, version: Version
    ) -> object:
        asked = pb.UpdateTenantRequest(
            id=tenant_of(who, tenant_id), name=body.name, status=NUMBER[body.status], etag=version
        )
        if body.status is not None:
            who.require("platform")
        changed = (await control.write(control.tenants.UpdateTenant, asked)).tenant
        return told(request, response, _shown(changed), changed.etag)

    @routes.delete("/{tenant_id}", response_model=Deleted, summary="Remove a tenant and revoke its keys")
    async def remove(tenant_id: str, who: Caller, version: Version) -> object:
        tenant_of(who, tenant_id)
        who.require("platform")
        await control.write(control.tenants.DeleteTenant, pb.DeleteTenantRequest(id=tenant_id, etag=version))
        return Deleted(id=tenant_id, object="tenant.deleted")

    return routes


def _shown(tenant: pb.Tenant) -> Tenant:
    return Tenant(
        id=tenant.id,
        name=tenant.name,
        status=STATUS[tenant.status],
        created_at=moment(tenant.create_time),
        updated_at=moment(tenant.update_time),
        etag=tenant.etag,
    )
