"""Settings layers: defaults of the profile, environment, tenant, workspace (spec 13.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from control import fields
from control.access import Access
from control.changes import Changes
from control.store import LayerRow, ResourceRow, Unit
from control.tenants import require_tenant, require_workspace
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.config import mask
from kit.db import utc_now
from kit.errors import PlatformError
from kit.principal import PLATFORM
from kit.settings import merge_layers, validate_layer

DEFAULTS: Final = "defaults"
ENVIRONMENT: Final = "environment"
TENANT: Final = "tenant"
WORKSPACE: Final = "workspace"
EFFECTIVE: Final = "effective"

_KIND = ResourceKind.RESOURCE_KIND_SETTINGS
_NO_LAYER: Final = "0"


@dataclass(frozen=True, slots=True)
class Shown:
    """A layer, or all of them merged, as an administrator reads it."""

    document: Mapping[str, Any]
    etag: str
    origins: Mapping[str, str]


class Settings:
    """Reads and replaces layers."""

    def __init__(self, changes: Changes, access: Access) -> None:
        self._changes = changes
        self._access = access

    async def get(self, tenant_id: str, workspace_id: str, layer: str) -> Shown:
        """One layer, or the effective settings with the layer that decided each field. Secrets are masked."""
        await self._access.read("settings", tenant_id)
        if layer == WORKSPACE and not workspace_id:
            raise PlatformError.invalid("workspace_id", "Required for the layer of a workspace.")
        async with self._changes.read(tenant_id) as unit:
            await require_tenant(unit, tenant_id)
            if workspace_id:
                await require_workspace(unit, tenant_id, workspace_id)
            own = {TENANT: await _layer(unit, tenant_id, "")}
            if workspace_id:
                own[WORKSPACE] = await _layer(unit, tenant_id, workspace_id)
        if layer in (TENANT, WORKSPACE):
            row = own[layer]
            return Shown(mask(row.document) if row else {}, str(row.revision) if row else _NO_LAYER, {})
        platform = await self._platform_layers()
        if layer in (DEFAULTS, ENVIRONMENT):
            document, revision = platform[layer]
            return Shown(mask(document), revision, {})
        layers = [(name, document) for name, (document, _) in platform.items()]
        merged = merge_layers([*layers, *((name, row.document) for name, row in own.items() if row)])
        values = mask(merged.values)
        return Shown(values, _digest(values), merged.origins)

    async def update(
        self, tenant_id: str, workspace_id: str, document: Mapping[str, Any], etag: str
    ) -> tuple[LayerRow, int]:
        """Replace the layer of a tenant, or of one of its workspaces."""
        await self._access.write("settings", tenant_id, workspace_id=workspace_id)
        checked = _checked(document)
        name = WORKSPACE if workspace_id else TENANT
        async with self._changes.open(tenant_id) as change:
            await require_tenant(change.unit, tenant_id)
            if workspace_id:
                await require_workspace(change.unit, tenant_id, workspace_id)
            row = await _layer(change.unit, tenant_id, workspace_id)
            fields.etag(row.revision if row else int(_NO_LAYER), etag, "settings")
            if row is None:
                row = LayerRow(tenant_id=tenant_id, workspace_id=workspace_id)
            row.document, row.updated_at = checked, utc_now()
            row.revision = await change.tell(_KIND, tenant_id, name, checked, workspace_id=workspace_id)
            await change.unit.add(row)
            told = {"workspace": workspace_id, "fields": sorted(_leaves(checked))}
            await change.audit("settings.update", "settings", workspace_id or tenant_id, tenant_id, told)
        return row, change.revision

    async def _platform_layers(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Defaults and environment: (document, version) by name, in the order of merging."""
        layers: dict[str, tuple[dict[str, Any], str]] = {}
        async with self._changes.read("") as unit:
            for name in (DEFAULTS, ENVIRONMENT):
                row = await unit.find(ResourceRow, kind=int(_KIND), tenant_id="", workspace_id="", name=name)
                found = row is not None and not row.deleted
                layers[name] = (orjson.loads(row.body), str(row.revision)) if row and found else ({}, _NO_LAYER)
        return layers


async def _layer(unit: Unit, tenant_id: str, workspace_id: str) -> LayerRow | None:
    return await unit.find(LayerRow, tenant_id=tenant_id, workspace_id=workspace_id)


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    layer = validate_layer(document)
    for index, issuer in enumerate(layer.get("security", {}).get("jwt", [])):
        if PLATFORM in issuer.get("scopes", []):
            field = f"security.jwt.{index}.scopes"
            raise PlatformError.invalid(field, "A tenant's issuer cannot give the scope platform.")
    return layer


def _leaves(document: Mapping[str, Any]) -> list[str]:
    return [f"{group}.{name}" for group, section in document.items() for name in section]


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
