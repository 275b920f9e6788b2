"""ApiKeyService."""

from __future__ import annotations

from typing import Any

import orjson

from control import fields
from control.keys import ApiKeys, KeyUpdate, NewKey
from control.service.convert import Page, moment, required, stamp, tenant_of
from control.store import ApiKeyEntry
from fastchat.control.v1 import api_key_service_pb2 as pb
from fastchat.control.v1 import api_key_service_pb2_grpc as rpc


class ApiKeyServicer(rpc.ApiKeyServiceServicer):
    """API keys."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Any) -> pb.CreateApiKeyResponse:
        """CreateApiKey makes a key and tells it this once."""
        wanted = NewKey(
            tenant_id=tenant_of(request.tenant_id),
            workspace_id=request.workspace_id,
            subject=request.subject,
            name=request.name,
            roles=tuple(request.roles),
            scopes=tuple(request.scopes),
            expires_at=moment(request, "expire_time", "expires_at"),
            settings=fields.json_object("settings", request.settings_json),
        )
        row, key, revision = await self._keys.create(wanted)
        return pb.CreateApiKeyResponse(api_key=_key(row), key=key, revision=revision)

    async def GetApiKey(self, request: pb.GetApiKeyRequest, context: Any) -> pb.GetApiKeyResponse:
        """GetApiKey reads a key's record."""
        row = await self._keys.get(tenant_of(request.tenant_id), required("id", request.id))
        return pb.GetApiKeyResponse(api_key=_key(row))

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Any) -> pb.ListApiKeysResponse:
        """ListApiKeys lists a tenant's keys, newest first."""
        page = Page(request, 2)
        rows = await self._keys.list(
            tenant_of(request.tenant_id),
            request.workspace_id,
            fields.page_key(page.after),
            page.limit,
            request.include_revoked,
        )
        found, token = page.cut(rows, lambda row: (row.created_at.isoformat(), row.id))
        return pb.ListApiKeysResponse(api_keys=[_key(row) for row in found], next_page_token=token)

    async def UpdateApiKey(self, request: pb.UpdateApiKeyRequest, context: Any) -> pb.UpdateApiKeyResponse:
        """UpdateApiKey changes name, roles, scopes, expiry or settings."""
        settings = fields.json_object("settings", request.settings_json) if request.HasField("settings_json") else None
        wanted = KeyUpdate(
            name=request.name if request.HasField("name") else None,
            grants=(tuple(request.roles), tuple(request.scopes)) if request.replace_grants else None,
            expires_at=moment(request, "expire_time", "expires_at"),
            settings=settings,
        )
        tenant, key_id = tenant_of(request.tenant_id), required("id", request.id)
        row, revision = await self._keys.update(tenant, key_id, wanted, request.etag)
        return pb.UpdateApiKeyResponse(api_key=_key(row), revision=revision)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> pb.RevokeApiKeyResponse:
        """RevokeApiKey ends a key for good, everywhere within a second."""
        row, revision = await self._keys.revoke(tenant_of(request.tenant_id), required("id", request.id))
        return pb.RevokeApiKeyResponse(api_key=_key(row), revision=revision)

    async def LookupApiKey(self, request: pb.LookupApiKeyRequest, context: Any) -> pb.LookupApiKeyResponse:
        """LookupApiKey finds a key by hash, for a gateway that has not heard of it yet."""
        return pb.LookupApiKeyResponse(api_key=_key(await self._keys.look_up(request.key_hash)))


def _key(row: ApiKeyEntry) -> pb.ApiKey:
    return pb.ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        workspace_id=row.workspace_id,
        subject=row.subject,
        name=row.name,
        prefix=row.prefix,
        roles=row.roles,
        scopes=row.scopes,
        expire_time=stamp(row.expires_at),
        revoke_time=stamp(row.revoked_at),
        create_time=stamp(row.created_at),
        settings_json=orjson.dumps(row.settings).decode(),
        etag=str(row.revision),
    )
