"""Registry rows of an owner together with the platform's, which every tenant sees."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from control.store.tables import ModelRow, PolicyRow, ResourceRow
from control.store.unit import Unit, keyset


async def policies(unit: Unit, owner: str, after: tuple[str, str] | None, limit: int) -> list[PolicyRow]:
    """Bundles by (name, owner), after such a key. Needs a platform unit."""
    query = select(PolicyRow).where(PolicyRow.tenant_id.in_(_owners(owner)))
    return list(await unit.session.scalars(keyset(query, PolicyRow, ("name", "tenant_id"), after or (), limit)))


async def told(unit: Unit, kind: int, owner: str, after: tuple[str, str] | None, limit: int) -> list[ResourceRow]:
    """Resources of a kind by (name, owner), after such a key. Needs a platform unit."""
    query = select(ResourceRow).where(
        ResourceRow.kind == kind, ResourceRow.tenant_id.in_(_owners(owner)), ResourceRow.deleted.is_(False)
    )
    return list(await unit.session.scalars(keyset(query, ResourceRow, ("name", "tenant_id"), after or (), limit)))


async def models(unit: Unit, owners: Sequence[str], aliases: Sequence[str]) -> dict[tuple[str, str], ModelRow]:
    """Entries made by the admin API, by (owner, alias)."""
    query = select(ModelRow).where(ModelRow.tenant_id.in_(owners), ModelRow.alias.in_(aliases))
    return {(row.tenant_id, row.alias): row for row in await unit.session.scalars(query)}


def _owners(owner: str) -> list[str]:
    return list(dict.fromkeys(["", owner]))
