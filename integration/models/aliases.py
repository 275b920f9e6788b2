"""Aliases as a tenant sees them: its own entries over the platform's, always as control last pushed them."""

from __future__ import annotations

from collections.abc import Callable

from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind
from integration.models import entries
from integration.models.deployments import Deployment
from integration.models.entries import Entry
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache

_MODEL = ResourceKind.RESOURCE_KIND_MODEL
Deploy = Callable[[Entry, str], Deployment]


class Aliases:
    """Looks aliases up, and keeps what was made of an entry until the entry changes."""

    def __init__(self, cache: SettingsCache, deploy: Deploy) -> None:
        self._cache = cache
        self._deploy = deploy
        self._made: dict[tuple[str, str], tuple[Resource, Deployment]] = {}
        self._stop = cache.on_change(self._forget)

    def close(self) -> None:
        """Stop following changes."""
        self._stop()

    def get(self, tenant_id: str, alias: str) -> Deployment:
        """The alias ready to be called. MODEL_NOT_FOUND, or why its entry cannot be used."""
        resource = self._find(tenant_id, alias)
        if resource is None:
            raise PlatformError(Reason.MODEL_NOT_FOUND, f'There is no model "{alias}".', model=alias)
        key = (resource.tenant_id, alias)
        made = self._made.get(key)
        if made is None or made[0] is not resource:
            entry = entries.parse(resource.body_json, alias)
            made = self._made[key] = (resource, self._deploy(entry, resource.tenant_id))
        return made[1]

    def names(self, tenant_id: str) -> list[str]:
        """All aliases of a tenant, in order."""
        owned = [*self._cache.resources(_MODEL, ""), *self._cache.resources(_MODEL, tenant_id)]
        return sorted({resource.name for resource in owned})

    def platform_names(self) -> list[str]:
        """The platform's aliases, in order."""
        return sorted({resource.name for resource in self._cache.resources(_MODEL, "")})

    def _find(self, tenant_id: str, alias: str) -> Resource | None:
        own = self._cache.get(_MODEL, tenant_id, alias) if tenant_id else None
        return own or self._cache.get(_MODEL, "", alias)

    def _forget(self, changed: list[Resource]) -> None:
        for resource in changed:
            if resource.kind == _MODEL:
                self._made.pop((resource.tenant_id, resource.name), None)
