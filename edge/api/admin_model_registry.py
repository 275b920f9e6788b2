"""/v1/admin/model-registry: aliases over LiteLLM's providers and models. Secrets go in and never come out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from edge.api.admin_http import (
    Caller,
    Deleted,
    Id,
    Listing,
    Page,
    TenantId,
    Version,
    document,
    listing,
    moment,
    owner_of,
    text_of,
    told,
)
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import model_registry_service_pb2 as pb
from kit.errors import PlatformError, Reason

_ORIGINS: dict[int, Literal["registry", "file", "environment"]] = {
    pb.ENTRY_ORIGIN_REGISTRY: "registry",
    pb.ENTRY_ORIGIN_FILE: "file",
    pb.ENTRY_ORIGIN_ENVIRONMENT: "environment",
}


class ModelEntry(BaseModel):
    """An alias' entry. Only entries of origin `registry` can be changed here."""

    id: str
    object: Literal["model_entry"] = "model_entry"
    alias: str
    tenant_id: str
    origin: Literal["registry", "file", "environment"]
    entry: Annotated[dict[str, Any], Field(description="As in the settings file; secrets masked.")]
    created_at: datetime | None
    updated_at: datetime | None
    etag: str


class EntryBody(BaseModel):
    """An entry as in the settings file. Control checks every field; a secret sent masked keeps its value."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "alias": "gpt-4o",
                "litellm": {"model": "openai/gpt-4o", "api_key": "env:OPENAI_API_KEY"},
                "mode": "chat",
                "context_window": 128000,
                "max_output_tokens": 16384,
                "fallbacks": ["offline"],
            }
        },
    )

    tenant_id: Annotated[
        Id | None, Field(description="Owner. Default: the caller's tenant; a platform key's: all.")
    ] = None

    def entry_json(self) -> str:
        """The entry without its owner, as JSON object text."""
        return text_of(self.model_dump(exclude={"tenant_id"}))


class NewEntry(EntryBody):
    """An entry to make."""

    alias: Annotated[str, Field(min_length=1, max_length=200, description="What clients ask for.")]


class ChangedEntry(EntryBody):
    """The whole new entry."""

    alias: Annotated[str | None, Field(description="May be left out; else it must be that of the path.")] = None


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/model-registry", tags=["admin: model registry"])
    control = ControlPlane.of(deps)

    async def found(owner: str, alias: str) -> pb.ModelEntry:
        asked = pb.GetModelEntryRequest(tenant_id=owner, alias=alias)
        return (await control.read(control.model_registry.GetModelEntry, asked)).entry

    @routes.post("", status_code=201, response_model=ModelEntry, summary="Add an alias")
    async def create(body: NewEntry, request: Request, response: Response, who: Caller) -> object:
        owner = owner_of(who, body.tenant_id)
        asked = pb.CreateModelEntryRequest(tenant_id=owner, entry_json=body.entry_json())
        made = (await control.write(control.model_registry.CreateModelEntry, asked)).entry
        response.headers["location"] = f"/v1/admin/model-registry/{made.alias}" + (
            f"?tenant_id={owner}" if owner else ""
        )
        return told(request, response, _shown(made), made.etag)

    @routes.get("", response_model=Listing[ModelEntry], summary="List the tenant's entries and the platform's")
    async def index(page: Page, request: Request, response: Response, who: Caller, tenant_id: TenantId = "") -> object:
        asked = pb.ListModelEntriesRequest(
            tenant_id=owner_of(who, tenant_id), page_size=page.limit, page_token=page.after
        )
        entries = await control.read(control.model_registry.ListModelEntries, asked)
        return listing(request, response, [_shown(entry) for entry in entries.entries], entries.next_page_token)

    @routes.get("/{alias:path}", response_model=ModelEntry, summary="Read an entry, secrets masked")
    async def read(alias: str, request: Request, response: Response, who: Caller, tenant_id: TenantId = "") -> object:
        entry = await found(owner_of(who, tenant_id), alias)
        return told(request, response, _shown(entry), entry.etag)

    @routes.put("/{alias:path}", response_model=ModelEntry, summary="Replace an entry")
    async def change(
        alias: str,
        body: ChangedEntry,
        request: Request,
        response: Response,
        who: Caller,
        version: Version,
        tenant_id: TenantId = "",
    ) -> object:
        if body.alias not in (None, alias):
            raise PlatformError.invalid("alias", "an entry cannot be renamed; make another")
        body.alias = alias
        asked = pb.UpdateModelEntryRequest(
            tenant_id=owner_of(who, tenant_id or body.tenant_id),
            alias=alias,
            entry_json=body.entry_json(),
            etag=version,
        )
        changed = (await control.write(control.model_registry.UpdateModelEntry, asked)).entry
        return told(request, response, _shown(changed), changed.etag)

    @routes.delete("/{alias:path}", response_model=Deleted, summary="Remove an alias")
    async def remove(alias: str, who: Caller, version: Version, tenant_id: TenantId = "") -> object:
        asked = pb.DeleteModelEntryRequest(tenant_id=owner_of(who, tenant_id), alias=alias, etag=version)
        await control.write(control.model_registry.DeleteModelEntry, asked)
        return Deleted(id=alias, object="model_entry.deleted")

    return routes


def _shown(entry: pb.ModelEntry) -> ModelEntry:
    origin = _ORIGINS.get(entry.origin)
    if origin is None:
        raise PlatformError(Reason.INTERNAL, "the entry's origin is not known")
    return ModelEntry(
        id=entry.alias,
        alias=entry.alias,
        tenant_id=entry.tenant_id,
        origin=origin,
        entry=document(entry.entry_json),
        created_at=moment(entry.create_time, entry.HasField("create_time")),
        updated_at=moment(entry.update_time, entry.HasField("update_time")),
        etag=entry.etag,
    )
