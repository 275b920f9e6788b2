"""SettingsService."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson

from control import fields
from control.access import Access
from control.service.convert import tenant_of
from control.settings import DEFAULTS, EFFECTIVE, ENVIRONMENT, TENANT, WORKSPACE, Settings
from control.watch import Acknowledgements, Feed
from fastchat.control.v1 import settings_service_pb2 as pb
from fastchat.control.v1 import settings_service_pb2_grpc as rpc
from kit.errors import PlatformError

_LAYERS = {
    pb.SETTINGS_LAYER_UNSPECIFIED: EFFECTIVE,
    pb.SETTINGS_LAYER_DEFAULTS: DEFAULTS,
    pb.SETTINGS_LAYER_ENVIRONMENT: ENVIRONMENT,
    pb.SETTINGS_LAYER_TENANT: TENANT,
    pb.SETTINGS_LAYER_WORKSPACE: WORKSPACE,
}
_WATCHER = re.compile(r"[a-z]{1,32}/[A-Za-z0-9._-]{1,64}")


class SettingsServicer(rpc.SettingsServiceServicer):
    """Settings layers, and the push of everything that services cache."""

    def __init__(self, settings: Settings, feed: Feed, acknowledgements: Acknowledgements, access: Access) -> None:
        self._settings = settings
        self._feed = feed
        self._acknowledgements = acknowledgements
        self._access = access

    async def WatchSettings(
        self, request_iterator: AsyncIterator[pb.WatchSettingsRequest], context: Any
    ) -> AsyncIterator[pb.WatchSettingsResponse]:
        """WatchSettings pushes a snapshot and then every change, and hears what was applied."""
        self._access.service()
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or not _WATCHER.fullmatch(first.watcher):
            raise PlatformError.invalid("watcher", 'Required: "<service>/<replica>".')
        ticket = self._acknowledgements.join(first.watcher)
        listener = asyncio.create_task(self._listen(requests, ticket), name=f"acknowledgements of {first.watcher}")
        try:
            async for batch in self._feed.stream(tuple(first.kinds), first.revision):
                yield batch
                if listener.done():
                    return  # the watcher has hung up
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            self._acknowledgements.leave(ticket)

    async def GetSettings(self, request: pb.GetSettingsRequest, context: Any) -> pb.GetSettingsResponse:
        """GetSettings reads one layer, or the effective settings of a scope."""
        if request.layer not in _LAYERS:
            raise PlatformError.invalid("layer", "Unknown.")
        layer = _LAYERS[request.layer]
        shown = await self._settings.get(tenant_of(request.tenant_id), request.workspace_id, layer)
        return pb.GetSettingsResponse(
            settings_json=orjson.dumps(shown.document).decode(),
            etag=shown.etag,
            origins_json=orjson.dumps(shown.origins).decode() if layer == EFFECTIVE else "",
        )

    async def UpdateSettings(self, request: pb.UpdateSettingsRequest, context: Any) -> pb.UpdateSettingsResponse:
        """UpdateSettings replaces one tenant or workspace layer."""
        document = fields.json_object("settings", request.settings_json)
        tenant = tenant_of(request.tenant_id)
        row, revision = await self._settings.update(tenant, request.workspace_id, document, request.etag)
        return pb.UpdateSettingsResponse(
            etag=str(row.revision), revision=revision, settings_json=orjson.dumps(row.document).decode()
        )

    async def _listen(self, requests: AsyncIterator[pb.WatchSettingsRequest], ticket: int) -> None:
        async for request in requests:
            self._acknowledgements.applied(ticket, request.revision)
