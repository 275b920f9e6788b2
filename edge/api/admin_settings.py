"""/v1/admin/settings: the layers of a tenant and a workspace, and what they come to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from edge.api.admin_http import (
    Body,
    Caller,
    Id,
    TenantId,
    Version,
    WorkspaceId,
    document,
    tenant_of,
    text_of,
    told,
)
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import settings_service_pb2 as pb

Layer = Literal["effective", "defaults", "environment", "tenant", "workspace"]
_LAYERS: dict[Layer, pb.SettingsLayer.ValueType] = {
    "effective": pb.SETTINGS_LAYER_UNSPECIFIED,
    "defaults": pb.SETTINGS_LAYER_DEFAULTS,
    "environment": pb.SETTINGS_LAYER_ENVIRONMENT,
    "tenant": pb.SETTINGS_LAYER_TENANT,
    "workspace": pb.SETTINGS_LAYER_WORKSPACE,
}


class Settings(BaseModel):
    """One layer, or all merged. `origins` tells for effective settings which layer decided each field."""

    object: Literal["settings"] = "settings"
    tenant_id: str
    workspace_id: str
    layer: Layer
    settings: dict[str, Any]
    origins: dict[str, str] | None = None
    etag: str


class NewSettings(Body):
    """The whole new layer of a tenant, or of one of its workspaces."""

    tenant_id: Id | None = None
    workspace_id: Id | None = None
    settings: Annotated[dict[str, Any], Field(description="Groups limits, preferences, runs, security, telemetry.")]


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/settings", tags=["admin: settings"])
    control = ControlPlane.of(deps)

    @routes.get("", response_model=Settings, summary="Read the effective settings, or one layer")
    async def read(
        request: Request,
        response: Response,
        who: Caller,
        tenant_id: TenantId = "",
        workspace_id: WorkspaceId = "",
        layer: Annotated[Layer, Query(description="Layer to read.")] = "effective",
    ) -> object:
        tenant = tenant_of(who, tenant_id)
        asked = pb.GetSettingsRequest(tenant_id=tenant, workspace_id=workspace_id, layer=_LAYERS[layer])
        found = await control.read(control.settings.GetSettings, asked)
        body = Settings(
            tenant_id=tenant,
            workspace_id=workspace_id,
            layer=layer,
            settings=document(found.settings_json),
            origins=document(found.origins_json) if layer == "effective" else None,
            etag=found.etag,
        )
        return told(request, response, body, found.etag)

    @routes.put("", response_model=Settings, summary="Replace the layer of a tenant or workspace")
    async def change(
        body: NewSettings,
        request: Request,
        response: Response,
        who: Caller,
        version: Version,
        tenant_id: TenantId = "",
        workspace_id: WorkspaceId = "",
    ) -> object:
        tenant = tenant_of(who, tenant_id or body.tenant_id)
        workspace = workspace_id or body.workspace_id or ""
        asked = pb.UpdateSettingsRequest(
            tenant_id=tenant, workspace_id=workspace, settings_json=text_of(body.settings), etag=version
        )
        stored = await control.write(control.settings.UpdateSettings, asked)
        shown = Settings(
            tenant_id=tenant,
            workspace_id=workspace,
            layer="workspace" if workspace else "tenant",
            settings=document(stored.settings_json),
            etag=stored.etag,
        )
        return told(request, response, shown, stored.etag)

    return routes
