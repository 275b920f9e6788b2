"""Reads and pruning of what services are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, update

from control.store.tables import ResourceRow, RevisionCounter
from control.store.unit import Unit
from kit.db import utc_now


@dataclass(frozen=True, slots=True)
class Head:
    """The newest revision, and the one below which changes can no longer be told one by one."""

    revision: int
    floor: int


async def head(unit: Unit) -> Head:
    """Where the counter stands."""
    row = (await unit.session.execute(select(RevisionCounter.value, RevisionCounter.floor))).one()
    return Head(int(row.value), int(row.floor))


async def changes(
    unit: Unit, after: int, limit: int, kinds: Sequence[int] = (), *, removed: bool = True
) -> list[ResourceRow]:
    """Resources changed after a revision, oldest change first; without `removed`, only those that exist."""
    query = select(ResourceRow).where(ResourceRow.revision > after)
    if kinds:
        query = query.where(ResourceRow.kind.in_(kinds))
    if not removed:
        query = query.where(ResourceRow.deleted.is_(False))
    return list(await unit.session.scalars(query.order_by(ResourceRow.revision).limit(limit)))


async def prune(unit: Unit, before: datetime) -> int:
    """Forget resources removed before then, and raise the floor over them. Returns how many went."""
    old = (ResourceRow.deleted.is_(True), ResourceRow.updated_at < before)
    newest, count = (await unit.session.execute(select(func.max(ResourceRow.revision), func.count()).where(*old))).one()
    if not count:
        return 0
    await unit.session.execute(
        update(RevisionCounter)
        .where(RevisionCounter.id == 1, RevisionCounter.floor < newest)
        .values(floor=newest)
        .execution_options(synchronize_session=False)
    )
    await unit.session.execute(delete(ResourceRow).where(*old).execution_options(synchronize_session=False))
    return int(count)


async def withdraw(unit: Unit, tenant_id: str, workspace_id: str | None = None) -> int:
    """Withdraw everything told of a tenant, or of one of its workspaces. Returns the last revision used."""
    query = select(ResourceRow).where(ResourceRow.tenant_id == tenant_id, ResourceRow.deleted.is_(False))
    if workspace_id is not None:
        query = query.where(ResourceRow.workspace_id == workspace_id)
    revision = 0
    for row in await unit.session.scalars(query):
        revision = row.revision = await unit.next_revision()
        row.deleted, row.body, row.updated_at = True, "", utc_now()
    await unit.session.flush()
    return revision
