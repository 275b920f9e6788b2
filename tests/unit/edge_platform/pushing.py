"""What control would push, made by hand."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from kit.settings import SettingsCache


class Control:
    """Fills a settings cache the way that control does."""

    def __init__(self, cache: SettingsCache) -> None:
        self._cache = cache
        self._revision = itertools.count(1)

    def push(self, kind: str, tenant_id: str, name: str, body: Any = None, workspace_id: str = "") -> None:
        """One changed resource; without a body it is removed."""
        revision = next(self._revision)
        resource = Resource(
            kind=ResourceKind.Value(f"RESOURCE_KIND_{kind}"),
            tenant_id=tenant_id,
            workspace_id=workspace_id,
            name=name,
            revision=revision,
            body_json=json.dumps(body or {}),
            deleted=body is None,
        )
        self._cache.apply(WatchSettingsResponse(resources=[resource], revision=revision))

    def tenant(self, tenant_id: str, status: str = "active") -> None:
        """A tenant."""
        self.push("TENANT", tenant_id, tenant_id, {"name": tenant_id, "status": status})

    def workspace(self, tenant_id: str, workspace_id: str, status: str = "active") -> None:
        """A workspace."""
        body = {"name": workspace_id, "status": status}
        self.push("WORKSPACE", tenant_id, workspace_id, body, workspace_id)

    def settings(self, tenant_id: str, document: dict[str, Any], workspace_id: str = "", name: str = "tenant") -> None:
        """A settings layer."""
        self.push("SETTINGS", tenant_id, name, document, workspace_id)

    def key(self, key: str, tenant_id: str, workspace_id: str = "", **body: Any) -> None:
        """An API key."""
        told = {"id": f"key_{key}", "subject": f"app:{key}", "roles": ["member"], "scopes": ["chat"], **body}
        self.push("API_KEY", tenant_id, hashlib.sha256(key.encode()).hexdigest(), told, workspace_id)

    def revoke(self, key: str, tenant_id: str, workspace_id: str = "") -> None:
        """Revoke the key."""
        self.push("API_KEY", tenant_id, hashlib.sha256(key.encode()).hexdigest(), None, workspace_id)
