"""/v1/admin/workspaces: the workspaces of a tenant."""

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
    TenantId,
    Version,
    listing,
    moment,
    tenant_of,
    told,
)
from edge.api.admin_tenants import NUMBER, STATUS, Status
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import tenant_service_pb2 as pb


class Workspace(BaseModel):
    """A workspace of a tenant."""

    id: str
    object: Literal["workspace"] = "workspace"
    tenant_id: str
    name: str
    status: Status
    created_at: datetime | None
    updated_at: datetime | None
    etag: str


class NewWorkspace(Body):
    """A workspace to make. Without an id, one is made from the name."""

    tenant_id: Id | None = None
    id: Id | None = None
    name: Name


class WorkspaceChange(Body):
    """What to change; what is absent stays."""

    name: Name | None = None
    status: Status | None = None


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/workspaces", tags=["admin: workspaces"])
    control = ControlPlane.of(deps)

    @routes.post("", status_code=201, response_model=Workspace, summary="Make a workspace")
    async def create(body: NewWorkspace, request: Request, response: Response, who: Caller) -> object:
        tenant = tenant_of(who, body.tenant_id)
        asked = pb.CreateWorkspaceRequest(tenant_id=tenant, id=body.id or "", name=body.name)
        made = (await control.write(control.tenants.CreateWorkspace, asked)).workspace
        response.headers["location"] = f"/v1/admin/workspaces/{made.id}?tenant_id={tenant}"
        return told(request, response, _shown(made), made.etag)

    @routes.get("", response_model=Listing[Workspace], summary="List a tenant's workspaces")
    async def index(page: Page, request: Request, response: Response, who: Caller, tenant_id: TenantId = "") -> object:
        asked = pb.ListWorkspacesRequest(
            tenant_id=tenant_of(who, tenant_id), page_size=page.limit, page_token=page.after
        )
        found = await control.read(control.tenants.ListWorkspaces, asked)
        return listing(request, response, [_shown(space) for space in found.workspaces], found.next_page_token)

    @routes.get("/{workspace_id}", response_model=Workspace, summary="Read a workspace")
    async def read(
        workspace_id: str, request: Request, response: Response, who: Caller, tenant_id: TenantId = ""
    ) -> object:
        asked = pb.GetWorkspaceRequest(tenant_id=tenant_of(who, tenant_id), id=workspace_id)
        found = (await control.read(control.tenants.GetWorkspace, asked)).workspace
        return told(request, response, _shown(found), found.etag)

    @routes.patch("/{workspace_id}", response_model=Workspace, summary="Rename, suspend or reactivate a workspace")
    async def change(
        workspace_id: str,
        body: WorkspaceChange,
        request: Request,
        response: Response,
        who: Caller,
        version: Version,
        tenant_id: TenantId = "",
    ) -> object:
        asked = pb.UpdateWorkspaceRequest(
            tenant_id=tenant_of(who, tenant_id),
            id=workspace_id,
            name=body.name,
            status=NUMBER[body.status],
            etag=version,
        )
        changed = (await control.write(control.tenants.UpdateWorkspace, asked)).workspace
        return told(request, response, _shown(changed), changed.etag)

    @routes.delete("/{workspace_id}", response_model=Deleted, summary="Remove a workspace and revoke its keys")
    async def remove(workspace_id: str, who: Caller, version: Version, tenant_id: TenantId = "") -> object:
        asked = pb.DeleteWorkspaceRequest(tenant_id=tenant_of(who, tenant_id), id=workspace_id, etag=version)
        await control.write(control.tenants.DeleteWorkspace, asked)
        return Deleted(id=workspace_id, object="workspace.deleted")

    return routes


def _shown(space: pb.Workspace) -> Workspace:
    return Workspace(
        id=space.id,
        tenant_id=space.tenant_id,
        name=space.name,
        status=STATUS[space.status],
        created_at=moment(space.create_time),
        updated_at=moment(space.update_time),
        etag=space.etag,
    )
