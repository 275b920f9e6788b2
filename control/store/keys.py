"""API keys in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from control.store.tables import ApiKeyEntry
from control.store.unit import Unit, keyset


async def page(
    unit: Unit,
    tenant_id: str,
    workspace_id: str,
    after: tuple[datetime, str] | None,
    limit: int,
    *,
    include_revoked: bool,
) -> list[ApiKeyEntry]:
    """Keys of a tenant, newest first, after the key of the page before; "" does not narrow to a workspace."""
    query = select(ApiKeyEntry).where(ApiKeyEntry.tenant_id == tenant_id)
    if workspace_id:
        query = query.where(ApiKeyEntry.workspace_id == workspace_id)
    if not include_revoked:
        query = query.where(ApiKeyEntry.revoked_at.is_(None))
    query = keyset(query, ApiKeyEntry, ("created_at", "id"), after or (), limit, newest_first=True)
    return list(await unit.session.scalars(query))


async def living(unit: Unit, tenant_id: str, workspace_id: str | None = None) -> list[ApiKeyEntry]:
    """Keys of a tenant, or of one of its workspaces, that are not revoked."""
    query = select(ApiKeyEntry).where(ApiKeyEntry.tenant_id == tenant_id, ApiKeyEntry.revoked_at.is_(None))
    if workspace_id is not None:
        query = query.where(ApiKeyEntry.workspace_id == workspace_id)
    return list(await unit.session.scalars(query))
