"""ModelRegistryService."""

from __future__ import annotations

from typing import Any

import orjson

from control import fields
from control.registry import Registry, Shown
from control.service.convert import Page, required, stamp
from fastchat.control.v1 import model_registry_service_pb2 as pb
from fastchat.control.v1 import model_registry_service_pb2_grpc as rpc

_ORIGINS = {
    "registry": pb.ENTRY_ORIGIN_REGISTRY,
    "file": pb.ENTRY_ORIGIN_FILE,
    "environment": pb.ENTRY_ORIGIN_ENVIRONMENT,
}


class ModelRegistryServicer(rpc.ModelRegistryServiceServicer):
    """Aliases over LiteLLM's providers and models."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def CreateModelEntry(self, request: pb.CreateModelEntryRequest, context: Any) -> pb.CreateModelEntryResponse:
        """CreateModelEntry adds an alias."""
        document = fields.json_object("entry", request.entry_json)
        entry, revision = await self._registry.create(request.tenant_id, document)
        return pb.CreateModelEntryResponse(entry=_entry(entry), revision=revision)

    async def GetModelEntry(self, request: pb.GetModelEntryRequest, context: Any) -> pb.GetModelEntryResponse:
        """GetModelEntry reads an alias' entry, secrets masked."""
        entry = await self._registry.get(request.tenant_id, required("alias", request.alias))
        return pb.GetModelEntryResponse(entry=_entry(entry))

    async def ListModelEntries(self, request: pb.ListModelEntriesRequest, context: Any) -> pb.ListModelEntriesResponse:
        """ListModelEntries lists entries in order of alias."""
        page = Page(request, 2)
        after = (str(page.after[0]), str(page.after[1])) if page.after else None
        rows = await self._registry.list(request.tenant_id, after, page.limit)
        found, token = page.cut(rows, lambda entry: (entry.alias, entry.tenant_id))
        return pb.ListModelEntriesResponse(entries=[_entry(entry) for entry in found], next_page_token=token)

    async def UpdateModelEntry(self, request: pb.UpdateModelEntryRequest, context: Any) -> pb.UpdateModelEntryResponse:
        """UpdateModelEntry replaces an alias' entry. A masked secret keeps its value."""
        document = fields.json_object("entry", request.entry_json)
        alias = required("alias", request.alias)
        entry, revision = await self._registry.update(request.tenant_id, alias, document, request.etag)
        return pb.UpdateModelEntryResponse(entry=_entry(entry), revision=revision)

    async def DeleteModelEntry(self, request: pb.DeleteModelEntryRequest, context: Any) -> pb.DeleteModelEntryResponse:
        """DeleteModelEntry removes an alias."""
        alias = required("alias", request.alias)
        return pb.DeleteModelEntryResponse(revision=await self._registry.delete(request.tenant_id, alias, request.etag))


def _entry(entry: Shown) -> pb.ModelEntry:
    return pb.ModelEntry(
        alias=entry.alias,
        tenant_id=entry.tenant_id,
        entry_json=orjson.dumps(entry.document).decode(),
        origin=_ORIGINS[entry.origin],
        etag=str(entry.revision),
        create_time=stamp(entry.created_at),
        update_time=stamp(entry.updated_at),
    )
