"""The audit log in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, tuple_

from control.store.tables import AuditEntry
from control.store.unit import Unit, keyset

# Three columns a key, and engines bound the number of parameters.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to list; "" and None do not narrow. `action` may end in "*"."""

    action: str = ""
    subject: str = ""
    resource_id: str = ""
    start: datetime | None = None
    end: datetime | None = None


async def append(unit: Unit, rows: Sequence[AuditEntry]) -> int:
    """Store the events that are not stored yet; returns how many those were."""
    fresh = {(row.tenant_id, row.event_id): row for row in reversed(rows)}
    keys = list(fresh)
    for start in range(0, len(keys), _BATCH):
        wanted = tuple_(AuditEntry.tenant_id, AuditEntry.event_id).in_(keys[start : start + _BATCH])
        for found in await unit.session.execute(select(AuditEntry.tenant_id, AuditEntry.event_id).where(wanted)):
            del fresh[(found.tenant_id, found.event_id)]
    if fresh:
        await unit.session.execute(insert(AuditEntry), [_values(row) for row in fresh.values()])
    return len(fresh)


async def page(
    unit: Unit, tenant_id: str, wanted: AuditFilter, after: tuple[datetime, str] | None, limit: int
) -> list[AuditEntry]:
    """Events of a tenant, newest first, after the key of the page before."""
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    if wanted.action.endswith("*"):
        query = query.where(AuditEntry.action.startswith(wanted.action[:-1], autoescape=True))
    elif wanted.action:
        query = query.where(AuditEntry.action == wanted.action)
    if wanted.subject:
        query = query.where(AuditEntry.subject == wanted.subject)
    if wanted.resource_id:
        query = query.where(AuditEntry.resource_id == wanted.resource_id)
    if wanted.start is not None:
        query = query.where(AuditEntry.time >= wanted.start)
    if wanted.end is not None:
        query = query.where(AuditEntry.time < wanted.end)
    query = keyset(query, AuditEntry, ("time", "event_id"), after or (), limit, newest_first=True)
    return list(await unit.session.scalars(query))


def _values(row: AuditEntry) -> dict[str, Any]:
    skipped = ("data_class", "key_id")  # the columns' own defaults
    return {
        column.key: getattr(row, column.key) for column in AuditEntry.__table__.columns if column.key not in skipped
    }
