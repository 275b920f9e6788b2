"""A control plane in memory: enough of it for the admin routes, recording who asked."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

from fastchat.control.v1 import (
    api_key_service_pb2,
    audit_service_pb2,
    model_registry_service_pb2,
    policy_service_pb2,
    settings_service_pb2,
    tenant_service_pb2,
)
from kit.errors import PlatformError, Reason
from kit.principal import current


class Plane:
    """Answers control's rpcs from dictionaries. `asked` holds (rpc, request, subject)."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, str]] = []
        self.tenants: dict[str, tenant_service_pb2.Tenant] = {}
        self.keys: dict[tuple[str, str], api_key_service_pb2.ApiKey] = {}
        self.entries: dict[tuple[str, str], model_registry_service_pb2.ModelEntry] = {}
        self.layers: dict[tuple[str, str], str] = {}
        self._numbers = itertools.count(1)

    def clients(self) -> Any:
        """As edge.clients.Clients."""
        return SimpleNamespace(
            runs=SimpleNamespace(),
            models=SimpleNamespace(),
            tenants=self._service(self, "CreateTenant", "GetTenant", "ListTenants", "UpdateTenant", "DeleteTenant"),
            api_keys=self._service(self, "CreateApiKey", "GetApiKey", "ListApiKeys", "UpdateApiKey", "RevokeApiKey"),
            model_registry=self._service(
                self, "CreateModelEntry", "GetModelEntry", "ListModelEntries", "UpdateModelEntry", "DeleteModelEntry"
            ),
            policies=self._service(self, "CreatePolicy", "GetPolicy", "ListPolicies", "UpdatePolicy", "DeletePolicy"),
            settings=self._service(self, "GetSettings", "UpdateSettings"),
            audit=self._service(self, "ListAuditEvents"),
        )

    @staticmethod
    def _service(plane: Plane, *rpcs: str) -> Any:
        def rpc(name: str) -> Any:
            async def call(request: Any) -> Any:
                plane.asked.append((name, request, current().subject))
                return getattr(plane, name)(request)

            return call

        return SimpleNamespace(**{name: rpc(name) for name in rpcs})

    def CreateTenant(self, request: Any) -> Any:
        tenant = tenant_service_pb2.Tenant(id=request.id or "made", name=request.name, status=1, etag="e1")
        if tenant.id in self.tenants:
            raise PlatformError(Reason.ALREADY_EXISTS, "it exists", resource="tenant", id=tenant.id)
        self.tenants[tenant.id] = tenant
        return tenant_service_pb2.CreateTenantResponse(tenant=tenant)

    def GetTenant(self, request: Any) -> Any:
        return tenant_service_pb2.GetTenantResponse(tenant=self._tenant(request.id))

    def ListTenants(self, request: Any) -> Any:
        names = sorted(self.tenants)
        first = names.index(request.page_token) if request.page_token else 0
        page = names[first : first + request.page_size]
        rest = names[first + request.page_size :]
        return tenant_service_pb2.ListTenantsResponse(
            tenants=[self.tenants[name] for name in page], next_page_token=rest[0] if rest else ""
        )

    def UpdateTenant(self, request: Any) -> Any:
        tenant = self._tenant(request.id)
        if request.etag and request.etag != tenant.etag:
            raise PlatformError(Reason.ETAG_MISMATCH, "it has changed", etag=tenant.etag)
        tenant.name = request.name if request.HasField("name") else tenant.name
        tenant.status = request.status or tenant.status
        tenant.etag = f"e{next(self._numbers) + 1}"
        return tenant_service_pb2.UpdateTenantResponse(tenant=tenant)

    def DeleteTenant(self, request: Any) -> Any:
        del self.tenants[self._tenant(request.id).id]
        return tenant_service_pb2.DeleteTenantResponse()

    def _tenant(self, tenant_id: str) -> Any:
        if tenant_id not in self.tenants:
            raise PlatformError.not_found("tenant", tenant_id)
        return self.tenants[tenant_id]

    def CreateApiKey(self, request: Any) -> Any:
        key = api_key_service_pb2.ApiKey(
            id="key_1",
            tenant_id=request.tenant_id,
            workspace_id=request.workspace_id,
            subject=request.subject,
            prefix="fc_abc",
            roles=request.roles or ["member"],
            scopes=request.scopes or ["chat"],
            settings_json=request.settings_json,
            etag="k1",
        )
        if request.HasField("expire_time"):
            key.expire_time.CopyFrom(request.expire_time)
        self.keys[key.tenant_id, key.id] = key
        return api_key_service_pb2.CreateApiKeyResponse(api_key=key, key="fc_abcdef")

    def GetApiKey(self, request: Any) -> Any:
        key = self.keys.get((request.tenant_id, request.id))
        if key is None:
            raise PlatformError.not_found("api_key", request.id)
        return api_key_service_pb2.GetApiKeyResponse(api_key=key)

    def ListApiKeys(self, request: Any) -> Any:
        keys = [key for (tenant, _), key in self.keys.items() if tenant == request.tenant_id]
        return api_key_service_pb2.ListApiKeysResponse(api_keys=keys)

    def UpdateApiKey(self, request: Any) -> Any:
        key = self.GetApiKey(request).api_key
        if request.replace_grants:
            del key.roles[:], key.scopes[:]
            key.roles.extend(request.roles)
            key.scopes.extend(request.scopes)
        return api_key_service_pb2.UpdateApiKeyResponse(api_key=key)

    def RevokeApiKey(self, request: Any) -> Any:
        key = self.GetApiKey(request).api_key
        del self.keys[request.tenant_id, request.id]
        return api_key_service_pb2.RevokeApiKeyResponse(api_key=key)

    def CreateModelEntry(self, request: Any) -> Any:
        entry = model_registry_service_pb2.ModelEntry(
            alias=json.loads(request.entry_json)["alias"],
            tenant_id=request.tenant_id,
            entry_json=request.entry_json,
            origin=model_registry_service_pb2.ENTRY_ORIGIN_REGISTRY,
            etag="m1",
        )
        self.entries[entry.tenant_id, entry.alias] = entry
        return model_registry_service_pb2.CreateModelEntryResponse(entry=entry)

    def GetModelEntry(self, request: Any) -> Any:
        entry = self.entries.get((request.tenant_id, request.alias))
        if entry is None:
            raise PlatformError.not_found("model", request.alias)
        return model_registry_service_pb2.GetModelEntryResponse(entry=entry)

    def UpdateModelEntry(self, request: Any) -> Any:
        entry = self.GetModelEntry(request).entry
        entry.entry_json = request.entry_json
        return model_registry_service_pb2.UpdateModelEntryResponse(entry=entry)

    def GetPolicy(self, request: Any) -> Any:
        raise PlatformError.not_found("policy", request.name)

    def ListPolicies(self, _: Any) -> Any:
        return policy_service_pb2.ListPoliciesResponse()

    def GetSettings(self, request: Any) -> Any:
        text = self.layers.get((request.tenant_id, request.workspace_id), "{}")
        return settings_service_pb2.GetSettingsResponse(settings_json=text, etag="s1", origins_json='{"a.b": "tenant"}')

    def UpdateSettings(self, request: Any) -> Any:
        self.layers[request.tenant_id, request.workspace_id] = request.settings_json
        return settings_service_pb2.UpdateSettingsResponse(settings_json=request.settings_json, etag="s2")

    def ListAuditEvents(self, request: Any) -> Any:
        event = audit_service_pb2.AuditEvent(
            event_id="a1", tenant_id=request.tenant_id, action="model.call", decision=2, details_json='{"x": 1}'
        )
        return audit_service_pb2.ListAuditEventsResponse(events=[event])
