"""Operations on policy bundles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

from control import fields
from control.access import Access
from control.changes import Change, Changes
from control.policy import text
from control.store import PolicyRow, ResourceRow, Unit
from control.store import registry as rows
from control.tenants import require_tenant
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.db import utc_now
from kit.errors import PlatformError, Reason

BUILT_IN: Final = "builtin"
_MAXIMUM_DESCRIPTION: Final = 1000
_KIND = ResourceKind.RESOURCE_KIND_POLICY


def built_in_text() -> str:
    """Cedar text of the built-in bundle."""
    return resources.files("control.policy").joinpath("builtin.cedar").read_text(encoding="utf-8")


class Policies:
    """Every write answers with the row and the revision of the change. `owner` "" is the platform.

    `applied` waits (a bounded time) until this control decides by a revision, so that its answer means "in force here".
    """

    def __init__(self, changes: Changes, access: Access, applied: Callable[[int], Awaitable[object]]) -> None:
        self._changes = changes
        self._access = access
        self._applied = applied

    async def create(self, wanted: PolicyRow) -> tuple[PolicyRow, int]:
        """Add a bundle."""
        owner = wanted.tenant_id
        await self._access.write("policy", owner)
        name = fields.slug("name", wanted.name)
        rule_ids = _checked(wanted)
        async with self._changes.open(owner) as change:
            if owner:
                await require_tenant(change.unit, owner)
            if name == BUILT_IN or await change.unit.find(PolicyRow, tenant_id=owner, name=name) is not None:
                message = f"There is a policy {name} already."
                raise PlatformError(Reason.ALREADY_EXISTS, message, resource="policy", id=name)
            wanted.created_at = wanted.updated_at = utc_now()
            await _tell(change, wanted)
            await change.unit.add(wanted)
            await change.audit("policy.create", "policy", name, owner, {"rules": rule_ids, "enabled": wanted.enabled})
        await self._applied(change.revision)
        return wanted, change.revision

    async def get(self, owner: str, name: str) -> PolicyRow:
        """Read a bundle: the owner's, else the platform's of that name."""
        await self._access.read("policy", owner, name)
        async with self._changes.read("") as unit:
            if name == BUILT_IN:
                return await _built_in(unit)
            row = await unit.find(PolicyRow, tenant_id=owner, name=name)
            row = row or await unit.find(PolicyRow, tenant_id="", name=name)
        if row is None:
            raise PlatformError.not_found("policy", name)
        return row

    async def list(self, owner: str, after: tuple[str, str] | None, limit: int) -> list[PolicyRow]:
        """Bundles of the owner and the platform, by (name, owner), after such a key; the built-in one first."""
        await self._access.read("policy", owner)
        async with self._changes.read("") as unit:
            if owner:
                await require_tenant(unit, owner)
            if after is None:
                first = [await _built_in(unit)]
                return first + await rows.policies(unit, owner, None, limit - 1) if limit > 1 else first
            return await rows.policies(unit, owner, None if after[0] == BUILT_IN else after, limit)

    async def update(self, wanted: PolicyRow, etag: str) -> tuple[PolicyRow, int]:
        """Replace a bundle's text, state and description."""
        owner, name = wanted.tenant_id, wanted.name
        await self._access.write("policy", owner, name)
        _refuse_built_in(name)
        rule_ids = _checked(wanted)
        async with self._changes.open(owner) as change:
            row = await _require_policy(change.unit, owner, name)
            fields.etag(row.revision, etag, "policy")
            row.cedar, row.enabled, row.description = wanted.cedar, wanted.enabled, wanted.description
            row.updated_at = utc_now()
            await _tell(change, row)
            await change.audit("policy.update", "policy", name, owner, {"rules": rule_ids, "enabled": row.enabled})
        await self._applied(change.revision)
        return row, change.revision

    async def delete(self, owner: str, name: str, etag: str) -> int:
        """Remove a bundle."""
        await self._access.write("policy", owner, name)
        _refuse_built_in(name)
        async with self._changes.open(owner) as change:
            row = await _require_policy(change.unit, owner, name)
            fields.etag(row.revision, etag, "policy")
            await change.tell(_KIND, owner, name, None)
            await change.unit.delete(row)
            await change.audit("policy.delete", "policy", name, owner)
        await self._applied(change.revision)
        return change.revision


def _checked(wanted: PolicyRow) -> list[str]:
    wanted.description = fields.text("description", wanted.description or "", _MAXIMUM_DESCRIPTION)
    return text.check(wanted.cedar)


async def _tell(change: Change, row: PolicyRow) -> None:
    body = {"cedar": row.cedar, "enabled": row.enabled}
    row.revision = await change.tell(_KIND, row.tenant_id, row.name, body)


async def _require_policy(unit: Unit, owner: str, name: str) -> PolicyRow:
    row = await unit.find(PolicyRow, tenant_id=owner, name=name)
    if row is None:
        raise PlatformError.not_found("policy", name)
    return row


async def _built_in(unit: Unit) -> PolicyRow:
    told = await unit.find(ResourceRow, kind=int(_KIND), tenant_id="", workspace_id="", name=BUILT_IN)
    return PolicyRow(
        tenant_id="",
        name=BUILT_IN,
        cedar=built_in_text(),
        enabled=True,
        description="What the built-in roles may do.",
        revision=told.revision if told else 0,
    )


def _refuse_built_in(name: str) -> None:
    if name == BUILT_IN:
        message = "The built-in bundle is read-only; add one of your own."
        raise PlatformError(Reason.CONFLICT, message, resource="policy", id=name)
