"""/v1/admin/api-keys: a key is told once, when it is made; only its hash is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from edge.api.admin_http import (
    Body,
    Caller,
    Deleted,
    Id,
    Listing,
    Page,
    TenantId,
    Version,
    WorkspaceId,
    document,
    listing,
    moment,
    require_version,
    stamp,
    tenant_of,
    text_of,
    told,
)
from edge.auth.identity import PLATFORM, Authenticated
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import api_key_service_pb2 as pb
from kit.errors import PlatformError

Label = Annotated[str, Field(min_length=1, max_length=100)]
Labels = Annotated[tuple[Label, ...], Field(max_length=50)]


class ApiKey(BaseModel):
    """An API key's record. `prefix` is how to recognise it."""

    id: str
    object: Literal["api_key"] = "api_key"
    tenant_id: str
    workspace_id: str
    subject: str
    name: str
    prefix: str
    roles: list[str]
    scopes: list[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime | None
    settings: dict[str, Any]
    etag: str


class MadeApiKey(ApiKey):
    """A new key's record, with the key itself this once."""

    key: str


class NewApiKey(Body):
    """A key to make. Without roles it is a member's; without scopes it has those of its roles."""

    tenant_id: Id | None = None
    workspace_id: Id | None = None
    subject: Annotated[str, Field(max_length=256)] | None = None
    name: Annotated[str, Field(max_length=200)] = ""
    roles: Labels = ()
    scopes: Labels = ()
    expires_at: AwareDatetime | None = None
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]


class ApiKeyChange(Body):
    """What to change; what is absent stays."""

    name: Annotated[str, Field(max_length=200)] | None = None
    roles: Labels | None = None
    scopes: Labels | None = None
    expires_at: AwareDatetime | None = None
    settings: dict[str, Any] | None = None


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/api-keys", tags=["admin: API keys"])
    control = ControlPlane.of(deps)

    async def current(tenant_id: str, key_id: str) -> pb.ApiKey:
        asked = pb.GetApiKeyRequest(tenant_id=tenant_id, id=key_id)
        return (await control.read(control.api_keys.GetApiKey, asked)).api_key

    @routes.post("", status_code=201, response_model=MadeApiKey, summary="Make a key, and tell it this once")
    async def create(body: NewApiKey, response: Response, who: Caller) -> object:
        tenant = tenant_of(who, body.tenant_id)
        _may_grant(who, body.scopes)
        asked = pb.CreateApiKeyRequest(
            tenant_id=tenant,
            workspace_id=body.workspace_id or "",
            subject=body.subject or "",
            name=body.name,
            roles=body.roles,
            scopes=body.scopes,
            expire_time=stamp(body.expires_at),
            settings_json=text_of(body.settings) if body.settings else "",
        )
        made = await control.write(control.api_keys.CreateApiKey, asked)
        response.headers["location"] = f"/v1/admin/api-keys/{made.api_key.id}?tenant_id={tenant}"
        response.headers["cache-control"] = "no-store"
        response.headers["etag"] = f'"{made.api_key.etag}"'
        return MadeApiKey(**_shown(made.api_key).model_dump(), key=made.key)

    @routes.get("", response_model=Listing[ApiKey], summary="List a tenant's keys, newest first")
    async def index(
        page: Page,
        request: Request,
        response: Response,
        who: Caller,
        tenant_id: TenantId = "",
        workspace_id: WorkspaceId = "",
        include_revoked: Annotated[bool, Query(description="Also revoked ones.")] = False,
    ) -> object:
        asked = pb.ListApiKeysRequest(
            tenant_id=tenant_of(who, tenant_id),
            workspace_id=workspace_id,
            include_revoked=include_revoked,
            page_size=page.limit,
            page_token=page.after,
        )
        found = await control.read(control.api_keys.ListApiKeys, asked)
        return listing(request, response, [_shown(key) for key in found.api_keys], found.next_page_token)

    @routes.get("/{key_id}", response_model=ApiKey, summary="Read a key's record")
    async def read(key_id: str, request: Request, response: Response, who: Caller, tenant_id: TenantId = "") -> object:
        found = await current(tenant_of(who, tenant_id), key_id)
        return told(request, response, _shown(found), found.etag)

    @routes.patch("/{key_id}", response_model=ApiKey, summary="Change a key's name, grants, expiry or settings")
    async def change(
        key_id: str,
        body: ApiKeyChange,
        request: Request,
        response: Response,
        who: Caller,
        version: Version,
        tenant_id: TenantId = "",
    ) -> object:
        tenant = tenant_of(who, tenant_id)
        if "expires_at" in body.model_fields_set and body.expires_at is None:
            raise PlatformError.invalid("expires_at", "an expiry cannot be taken away; make a new key")
        asked = pb.UpdateApiKeyRequest(
            tenant_id=tenant,
            id=key_id,
            name=body.name,
            expire_time=stamp(body.expires_at),
            settings_json=text_of(body.settings) if body.settings is not None else None,
            etag=version,
        )
        if body.roles is not None or body.scopes is not None:
            _may_grant(who, body.scopes or [])
            before = await current(tenant, key_id)  # grants are replaced together
            asked.replace_grants = True
            asked.roles.extend(before.roles if body.roles is None else body.roles)
            asked.scopes.extend(before.scopes if body.scopes is None else body.scopes)
            asked.etag = version or before.etag
        changed = (await control.write(control.api_keys.UpdateApiKey, asked)).api_key
        return told(request, response, _shown(changed), changed.etag)

    @routes.delete("/{key_id}", response_model=Deleted, summary="Revoke a key for good")
    async def revoke(key_id: str, who: Caller, version: Version, tenant_id: TenantId = "") -> object:
        tenant = tenant_of(who, tenant_id)
        if version:
            require_version((await current(tenant, key_id)).etag, version)
        asked = pb.RevokeApiKeyRequest(tenant_id=tenant, id=key_id)
        await control.write(control.api_keys.RevokeApiKey, asked)
        return Deleted(id=key_id, object="api_key.deleted")

    return routes


def _may_grant(who: Authenticated, scopes: Sequence[str]) -> None:
    """Nobody hands out the platform scope without holding it."""
    if PLATFORM in scopes:
        who.require(PLATFORM)


def _shown(key: pb.ApiKey) -> ApiKey:
    return ApiKey(
        id=key.id,
        tenant_id=key.tenant_id,
        workspace_id=key.workspace_id,
        subject=key.subject,
        name=key.name,
        prefix=key.prefix,
        roles=list(key.roles),
        scopes=list(key.scopes),
        expires_at=moment(key.expire_time, key.HasField("expire_time")),
        revoked_at=moment(key.revoke_time, key.HasField("revoke_time")),
        created_at=moment(key.create_time),
        settings=document(key.settings_json),
        etag=key.etag,
    )
