"""The model registry (PR-003): aliases over LiteLLM's providers and models.

What services are told is the truth about which aliases there are: those of the registry, which the admin API changes,
and those of the settings file and the environment (control.sources), which it only shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from control import entries, fields
from control.access import Access, is_platform
from control.changes import Change, Changes
from control.store import ModelRow, ResourceRow, Unit
from control.store import registry as rows
from control.tenants import require_tenant
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.crypto import Keyring
from kit.db import utc_now
from kit.errors import PlatformError, Reason
from kit.telemetry import get_logger

REGISTRY: Final = "registry"
MODEL = ResourceKind.RESOURCE_KIND_MODEL

_log = get_logger(__name__)
_RESOURCE: Final = "model_entry"
_MOST_ALIASES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry as it is read: secrets masked."""

    alias: str
    tenant_id: str
    document: Mapping[str, Any]
    origin: str
    revision: int
    created_at: datetime | None
    updated_at: datetime


class Registry:
    """Operations on entries. `owner` "" is the platform, whose entries every tenant sees, without their addresses."""

    def __init__(self, changes: Changes, access: Access, keyring: Keyring, on_removed: Callable[[], None]) -> None:
        self._changes = changes
        self._access = access
        self._keyring = keyring
        self._on_removed = on_removed

    async def create(self, owner: str, document: Mapping[str, Any]) -> tuple[Shown, int]:
        """Add an alias."""
        await self._access.write(_RESOURCE, owner)
        entry = entries.parse(document)
        if owner:
            entries.require_tenants(entry)
        await self._check_fallbacks(owner, entry)
        async with self._changes.open(owner) as change:
            if owner:
                await require_tenant(change.unit, owner)
            if await _told(change.unit, owner, entry.alias) is not None:
                message = f"There is a model entry {entry.alias} already."
                raise PlatformError(Reason.ALREADY_EXISTS, message, resource=_RESOURCE, id=entry.alias)
            now = utc_now()
            stored = entries.sealed(entry.document(), self._keyring, owner, None)
            row = ModelRow(tenant_id=owner, alias=entry.alias, entry=stored, created_at=now, updated_at=now)
            await _tell(change, row)
            await change.unit.add(row)
            await change.audit("model_entry.create", _RESOURCE, row.alias, owner, _details(entry))
        return _own(row), change.revision

    async def get(self, owner: str, alias: str) -> Shown:
        """Read an entry: the owner's, else the platform's of that alias."""
        principal = await self._access.read(_RESOURCE, owner, alias)
        async with self._changes.read("") as unit:
            told = await _told(unit, owner, alias) or await _told(unit, "", alias)
            if told is None:
                raise PlatformError.not_found(_RESOURCE, alias)
            made = await rows.models(unit, [told.tenant_id], [alias])
        return _shown(told, made.get((told.tenant_id, alias)), principal)

    async def list(self, owner: str, after: tuple[str, str] | None, limit: int) -> list[Shown]:
        """Entries of the owner and the platform, by (alias, owner), after such a key."""
        principal = await self._access.read(_RESOURCE, owner)
        async with self._changes.read("") as unit:
            if owner:
                await require_tenant(unit, owner)
            found = await rows.told(unit, int(MODEL), owner, after, limit)
            made = await rows.models(unit, ["", owner], [row.name for row in found])
        return [_shown(row, made.get((row.tenant_id, row.name)), principal) for row in found]

    async def update(self, owner: str, alias: str, document: Mapping[str, Any], etag: str) -> tuple[Shown, int]:
        """Replace an entry. A secret sent masked keeps its value."""
        await self._access.write(_RESOURCE, owner, alias)
        entry = entries.parse(document)
        if entry.alias != alias:
            raise PlatformError.invalid("alias", "An entry cannot be renamed; make another.")
        if owner:
            entries.require_tenants(entry)
        await self._check_fallbacks(owner, entry)
        async with self._changes.open(owner) as change:
            row = await _require_entry(change.unit, owner, alias)
            fields.etag(row.revision, etag, _RESOURCE)
            row.entry = entries.sealed(entry.document(), self._keyring, owner, row.entry)
            row.updated_at = utc_now()
            await _tell(change, row)
            await change.audit("model_entry.update", _RESOURCE, alias, owner, _details(entry))
        return _own(row), change.revision

    async def delete(self, owner: str, alias: str, etag: str) -> int:
        """Remove an alias."""
        await self._access.write(_RESOURCE, owner, alias)
        async with self._changes.open(owner) as change:
            row = await _require_entry(change.unit, owner, alias)
            fields.etag(row.revision, etag, _RESOURCE)
            await change.tell(MODEL, owner, alias, None)
            await change.unit.delete(row)
            await change.audit("model_entry.delete", _RESOURCE, alias, owner)
        if not owner:
            self._on_removed()  # the settings file may have one of that alias
        return change.revision

    async def _check_fallbacks(self, owner: str, entry: entries.Entry) -> None:
        """Refuse a cycle among the aliases that the owner sees; a name that is not there yet is only warned of."""
        if not entry.fallbacks:
            return
        async with self._changes.read("") as unit:
            told = await rows.told(unit, int(MODEL), owner, None, _MOST_ALIASES)
        # By (alias, owner), so that the tenant's own entry comes after, and hides, the platform's.
        graph = {row.name: orjson.loads(row.body).get("fallbacks", []) for row in told}
        graph[entry.alias] = entry.fallbacks
        circle = entries.cycle(graph)
        if circle is not None:
            raise PlatformError.invalid("fallbacks", f"Fallbacks go in a circle: {' -> '.join(circle)}.")
        unknown = [alias for alias in entry.fallbacks if alias not in graph]
        if unknown:
            _log.warning("fallbacks name aliases that do not exist yet", alias=entry.alias, unknown=unknown)


async def _told(unit: Unit, owner: str, alias: str) -> ResourceRow | None:
    row = await unit.find(ResourceRow, kind=int(MODEL), tenant_id=owner, workspace_id="", name=alias)
    return None if row is None or row.deleted else row


async def _tell(change: Change, row: ModelRow) -> None:
    body = {**row.entry, "origin": REGISTRY, "created": int(row.created_at.timestamp())}
    row.revision = await change.tell(MODEL, row.tenant_id, row.alias, body)


async def _require_entry(unit: Unit, owner: str, alias: str) -> ModelRow:
    """The owner's entry. NOT_FOUND if there is none; CONFLICT where it is the settings file's or the environment's."""
    row = await unit.find(ModelRow, tenant_id=owner, alias=alias)
    if row is not None:
        return row
    told = await _told(unit, owner, alias)
    if told is None:
        raise PlatformError.not_found(_RESOURCE, alias)
    message = f"This entry comes from the {told.origin} and is read-only here."
    raise PlatformError(Reason.CONFLICT, message, resource=_RESOURCE, id=alias)


def _details(entry: entries.Entry) -> dict[str, Any]:
    return {"model": entry.litellm["model"], "mode": entry.mode, "fallbacks": entry.fallbacks}


def _own(row: ModelRow) -> Shown:
    return Shown(
        row.alias,
        row.tenant_id,
        entries.masked(row.entry),
        REGISTRY,
        row.revision,
        row.created_at,
        row.updated_at,
    )


def _shown(told: ResourceRow, made: ModelRow | None, reader: Principal) -> Shown:
    document = entries.masked(orjson.loads(told.body))
    for told_beside in ("origin", "created"):
        document.pop(told_beside, None)
    if not told.tenant_id and not is_platform(reader):
        # What the platform calls, and how, is not its tenants' to know.
        document["litellm"] = {"model": document["litellm"]["model"]}
    return Shown(
        told.name,
        told.tenant_id,
        document,
        told.origin,
        told.revision,
        made.created_at if made else None,
        made.updated_at if made else told.updated_at,
    )
