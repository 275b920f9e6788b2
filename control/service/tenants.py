"""TenantService."""

from __future__ import annotations

from typing import Any

from control.service.convert import Page, lifecycle, required, stamp, status_text, tenant_of
from control.store import TenantEntry, WorkspaceEntry
from control.tenants import Tenants
from fastchat.control.v1 import tenant_service_pb2 as pb
from fastchat.control.v1 import tenant_service_pb2_grpc as rpc


class TenantServicer(rpc.TenantServiceServicer):
    """Tenants and workspaces."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: Any) -> pb.CreateTenantResponse:
        """CreateTenant makes a tenant with its workspace "default"."""
        row, revision = await self._tenants.create(request.id, request.name)
        return pb.CreateTenantResponse(tenant=_tenant(row), revision=revision)

    async def GetTenant(self, request: pb.GetTenantRequest, context: Any) -> pb.GetTenantResponse:
        """GetTenant reads a tenant."""
        return pb.GetTenantResponse(tenant=_tenant(await self._tenants.get(required("id", request.id))))

    async def ListTenants(self, request: pb.ListTenantsRequest, context: Any) -> pb.ListTenantsResponse:
        """ListTenants lists the tenants that the caller may see, in order of id."""
        page = Page(request, 1)
        rows = await self._tenants.list(str(page.after[0]) if page.after else "", page.limit)
        found, token = page.cut(rows, lambda row: (row.tenant_id,))
        return pb.ListTenantsResponse(tenants=[_tenant(row) for row in found], next_page_token=token)

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, context: Any) -> pb.UpdateTenantResponse:
        """UpdateTenant changes name or status."""
        name = request.name if request.HasField("name") else None
        wanted = required("id", request.id)
        row, revision = await self._tenants.update(wanted, name, status_text(request.status), request.etag)
        return pb.UpdateTenantResponse(tenant=_tenant(row), revision=revision)

    async def DeleteTenant(self, request: pb.DeleteTenantRequest, context: Any) -> pb.DeleteTenantResponse:
        """DeleteTenant removes a tenant and revokes its keys."""
        revision = await self._tenants.delete(required("id", request.id), request.etag)
        return pb.DeleteTenantResponse(revision=revision)

    async def CreateWorkspace(self, request: pb.CreateWorkspaceRequest, context: Any) -> pb.CreateWorkspaceResponse:
        """CreateWorkspace makes a workspace."""
        tenant = tenant_of(request.tenant_id)
        row, revision = await self._tenants.create_workspace(tenant, request.id, request.name)
        return pb.CreateWorkspaceResponse(workspace=_workspace(row), revision=revision)

    async def GetWorkspace(self, request: pb.GetWorkspaceRequest, context: Any) -> pb.GetWorkspaceResponse:
        """GetWorkspace reads a workspace."""
        row = await self._tenants.get_workspace(tenant_of(request.tenant_id), required("id", request.id))
        return pb.GetWorkspaceResponse(workspace=_workspace(row))

    async def ListWorkspaces(self, request: pb.ListWorkspacesRequest, context: Any) -> pb.ListWorkspacesResponse:
        """ListWorkspaces lists a tenant's workspaces, in order of id."""
        page = Page(request, 1)
        after = str(page.after[0]) if page.after else ""
        rows = await self._tenants.list_workspaces(tenant_of(request.tenant_id), after, page.limit)
        found, token = page.cut(rows, lambda row: (row.id,))
        return pb.ListWorkspacesResponse(workspaces=[_workspace(row) for row in found], next_page_token=token)

    async def UpdateWorkspace(self, request: pb.UpdateWorkspaceRequest, context: Any) -> pb.UpdateWorkspaceResponse:
        """UpdateWorkspace changes name or status."""
        row, revision = await self._tenants.update_workspace(
            tenant_of(request.tenant_id),
            required("id", request.id),
            request.name if request.HasField("name") else None,
            status_text(request.status),
            request.etag,
        )
        return pb.UpdateWorkspaceResponse(workspace=_workspace(row), revision=revision)

    async def DeleteWorkspace(self, request: pb.DeleteWorkspaceRequest, context: Any) -> pb.DeleteWorkspaceResponse:
        """DeleteWorkspace removes a workspace and revokes its keys."""
        tenant, wanted = tenant_of(request.tenant_id), required("id", request.id)
        return pb.DeleteWorkspaceResponse(revision=await self._tenants.delete_workspace(tenant, wanted, request.etag))


def _tenant(row: TenantEntry) -> pb.Tenant:
    return pb.Tenant(
        id=row.tenant_id,
        name=row.name,
        status=lifecycle(row.status),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=str(row.revision),
    )


def _workspace(row: WorkspaceEntry) -> pb.Workspace:
    return pb.Workspace(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        status=lifecycle(row.status),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=str(row.revision),
    )
