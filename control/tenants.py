"""Tenants and their workspaces."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from control import fields
from control.access import Access, is_platform
from control.changes import Change, Changes
from control.store import LayerRow, ModelRow, PolicyRow, TenantEntry, Unit, WorkspaceEntry, feed, keys
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.db import utc_now
from kit.errors import PlatformError, Reason

ACTIVE: Final = "active"
SUSPENDED: Final = "suspended"
DEFAULT: Final = "default"
"""Id of the tenant and workspace of the first start; every tenant begins with a workspace of that id."""

_TENANT = ResourceKind.RESOURCE_KIND_TENANT
_WORKSPACE = ResourceKind.RESOURCE_KIND_WORKSPACE


async def require_tenant(unit: Unit, tenant_id: str) -> TenantEntry:
    """The tenant's row; NOT_FOUND if there is none, or it was deleted."""
    row = await unit.find(TenantEntry, tenant_id=tenant_id)
    if row is None or row.deleted_at is not None:
        raise PlatformError.not_found("tenant", tenant_id)
    return row


async def require_workspace(unit: Unit, tenant_id: str, workspace_id: str) -> WorkspaceEntry:
    """The workspace's row; NOT_FOUND if there is none."""
    row = await unit.find(WorkspaceEntry, tenant_id=tenant_id, id=workspace_id)
    if row is None:
        raise PlatformError.not_found("workspace", workspace_id)
    return row


async def add_tenant(change: Change, tenant_id: str, name: str) -> TenantEntry:
    """Write a tenant and its first workspace."""
    row = TenantEntry(tenant_id=tenant_id, name=name, status=ACTIVE, created_at=utc_now(), updated_at=utc_now())
    row.revision = await change.tell(_TENANT, tenant_id, tenant_id, {"name": name, "status": ACTIVE})
    await change.unit.add(row)
    await add_workspace(change, tenant_id, DEFAULT, DEFAULT)
    return row


async def add_workspace(change: Change, tenant_id: str, workspace_id: str, name: str) -> WorkspaceEntry:
    """Write a workspace."""
    now = utc_now()
    row = WorkspaceEntry(tenant_id=tenant_id, id=workspace_id, name=name, status=ACTIVE, created_at=now, updated_at=now)
    row.revision = await change.tell(_WORKSPACE, tenant_id, workspace_id, {"name": name, "status": ACTIVE})
    await change.unit.add(row)
    return row


class Tenants:
    """Operations on tenants and workspaces. Every write answers with the row and the revision of the change."""

    def __init__(self, changes: Changes, access: Access) -> None:
        self._changes = changes
        self._access = access

    async def create(self, tenant_id: str, name: str) -> tuple[TenantEntry, int]:
        """Make a tenant. ALREADY_EXISTS also for the id of a deleted one, under which other services may hold data."""
        await self._access.platform("tenant", tenant_id)
        name = fields.text("name", name, fields.MAXIMUM_NAME, required=True)
        wanted = fields.slug("id", tenant_id) if tenant_id else fields.slug_of(name)
        async with self._changes.open("") as change:
            if await change.unit.find(TenantEntry, tenant_id=wanted) is not None:
                if tenant_id:
                    raise _exists("tenant", wanted)
                wanted = f"{wanted}-{secrets.token_hex(3)}"
            row = await add_tenant(change, wanted, name)
            await change.audit("tenant.create", "tenant", wanted, wanted, {"name": name})
        return row, change.revision

    async def get(self, tenant_id: str) -> TenantEntry:
        """Read a tenant."""
        await self._access.read("tenant", tenant_id or "-", tenant_id or "-")
        async with self._changes.read(tenant_id) as unit:
            return await require_tenant(unit, tenant_id)

    async def list(self, after: str, limit: int) -> list[TenantEntry]:
        """Tenants that the caller may see, in order of id, after an id."""
        principal = await self._access.read("tenant", "")
        if not is_platform(principal):
            own = await self.get(principal.tenant_id)
            return [own] if own.tenant_id > after else []
        async with self._changes.read("") as unit:
            return await unit.page(TenantEntry, ("tenant_id",), (after,) if after else (), limit, deleted_at=None)

    async def update(self, tenant_id: str, name: str | None, status: str, etag: str) -> tuple[TenantEntry, int]:
        """Change name or status ("" leaves it). Only the platform suspends a tenant and makes it active again."""
        principal = await self._access.write("tenant", tenant_id or "-", tenant_id or "-")
        if name is not None:
            name = fields.text("name", name, fields.MAXIMUM_NAME, required=True)
        if status and not is_platform(principal):
            raise PlatformError(Reason.MISSING_SCOPE, "Changing the status needs platform.", scope="platform")
        async with self._changes.open(tenant_id) as change:
            row = await require_tenant(change.unit, tenant_id)
            fields.etag(row.revision, etag, "tenant")
            row.name, row.status, row.updated_at = name or row.name, status or row.status, utc_now()
            body = {"name": row.name, "status": row.status}
            row.revision = await change.tell(_TENANT, tenant_id, tenant_id, body)
            await change.audit("tenant.update", "tenant", tenant_id, tenant_id, body)
        return row, change.revision

    async def delete(self, tenant_id: str, etag: str) -> int:
        """Remove a tenant: its keys are revoked, its configuration goes. Its data is EraseScope's."""
        await self._access.platform("tenant", tenant_id)
        if tenant_id == DEFAULT:
            message = "The tenant of the first start cannot be removed."
            raise PlatformError(Reason.CONFLICT, message, resource="tenant", id=tenant_id)
        async with self._changes.open("") as change:
            row = await require_tenant(change.unit, tenant_id)
            fields.etag(row.revision, etag, "tenant")
            for key in await keys.living(change.unit, tenant_id):
                key.revoked_at = utc_now()
            for kind in (WorkspaceEntry, ModelRow, PolicyRow, LayerRow):
                for owned in await change.unit.all(kind, tenant_id=tenant_id):
                    await change.unit.delete(owned)
            row.deleted_at = row.updated_at = utc_now()
            change.revision = await feed.withdraw(change.unit, tenant_id)
            row.revision = change.revision
            await change.audit("tenant.delete", "tenant", tenant_id, tenant_id)
        return change.revision

    async def create_workspace(self, tenant_id: str, workspace_id: str, name: str) -> tuple[WorkspaceEntry, int]:
        """Make a workspace."""
        await self._access.write("workspace", tenant_id)
        name = fields.text("name", name, fields.MAXIMUM_NAME, required=True)
        wanted = fields.slug("id", workspace_id) if workspace_id else fields.slug_of(name)
        async with self._changes.open(tenant_id) as change:
            await require_tenant(change.unit, tenant_id)
            if await change.unit.find(WorkspaceEntry, tenant_id=tenant_id, id=wanted) is not None:
                if workspace_id:
                    raise _exists("workspace", wanted)
                wanted = f"{wanted}-{secrets.token_hex(3)}"
            row = await add_workspace(change, tenant_id, wanted, name)
            await change.audit("workspace.create", "workspace", wanted, tenant_id, {"name": name})
        return row, change.revision

    async def get_workspace(self, tenant_id: str, workspace_id: str) -> WorkspaceEntry:
        """Read a workspace."""
        await self._access.read("workspace", tenant_id, workspace_id)
        async with self._changes.read(tenant_id) as unit:
            return await require_workspace(unit, tenant_id, workspace_id)

    async def list_workspaces(self, tenant_id: str, after: str, limit: int) -> Sequence[WorkspaceEntry]:
        """A tenant's workspaces in order of id, after an id."""
        await self._access.read("workspace", tenant_id)
        async with self._changes.read(tenant_id) as unit:
            await require_tenant(unit, tenant_id)
            return await unit.page(WorkspaceEntry, ("id",), (after,) if after else (), limit, tenant_id=tenant_id)

    async def update_workspace(
        self, tenant_id: str, workspace_id: str, name: str | None, status: str, etag: str
    ) -> tuple[WorkspaceEntry, int]:
        """Change name or status ("" leaves it)."""
        await self._access.write("workspace", tenant_id, workspace_id, workspace_id=workspace_id)
        if name is not None:
            name = fields.text("name", name, fields.MAXIMUM_NAME, required=True)
        async with self._changes.open(tenant_id) as change:
            row = await require_workspace(change.unit, tenant_id, workspace_id)
            fields.etag(row.revision, etag, "workspace")
            row.name, row.status, row.updated_at = name or row.name, status or row.status, utc_now()
            body = {"name": row.name, "status": row.status}
            row.revision = await change.tell(_WORKSPACE, tenant_id, workspace_id, body)
            await change.audit("workspace.update", "workspace", workspace_id, tenant_id, body)
        return row, change.revision

    async def delete_workspace(self, tenant_id: str, workspace_id: str, etag: str) -> int:
        """Remove a workspace with its settings; its keys are revoked."""
        await self._access.write("workspace", tenant_id, workspace_id)
        async with self._changes.open(tenant_id) as change:
            row = await require_workspace(change.unit, tenant_id, workspace_id)
            fields.etag(row.revision, etag, "workspace")
            for key in await keys.living(change.unit, tenant_id, workspace_id):
                key.revoked_at = utc_now()
            for layer in await change.unit.all(LayerRow, tenant_id=tenant_id, workspace_id=workspace_id):
                await change.unit.delete(layer)
            await feed.withdraw(change.unit, tenant_id, workspace_id)
            await change.tell(_WORKSPACE, tenant_id, workspace_id, None)
            await change.unit.delete(row)
            await change.audit("workspace.delete", "workspace", workspace_id, tenant_id)
        return change.revision


def _exists(resource: str, id: str) -> PlatformError:
    return PlatformError(Reason.ALREADY_EXISTS, f"There is a {resource} {id} already.", resource=resource, id=id)
