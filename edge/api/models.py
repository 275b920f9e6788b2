"""GET /v1/models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.auth import identity
from edge.clients import told
from edge.openai.models import model_json, models_json
from edge.permission import Permission
from fastchat.integration.v1 import model_service_pb2 as pb
from kit.errors import PlatformError, Reason

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


def router(deps: EdgeDeps) -> APIRouter:
    """The routes of models."""
    routes = APIRouter(tags=["models"])
    permission = Permission(deps.policy, deps.audit)

    async def models(request: Request) -> list[pb.Model]:
        principal = identity(request.scope).principal
        await permission.require(principal, "model.list", "Model", "")
        answer = deps.clients.models.ListModels(pb.ListModelsRequest(tenant_id=principal.tenant_id))
        return list((await told(answer, "integration")).models)

    @routes.get("/v1/models", response_model=None)
    async def list_models(request: Request) -> Response:
        """The model aliases that the caller may use."""
        return Response(orjson.dumps(models_json(await models(request))), media_type="application/json")

    @routes.get("/v1/models/{model:path}", response_model=None)
    async def retrieve_model(request: Request, model: str) -> Response:
        """One model alias."""
        for found in await models(request):
            if found.alias == model:
                return Response(orjson.dumps(model_json(found)), media_type="application/json")
        raise PlatformError(Reason.MODEL_NOT_FOUND, f"The model '{model}' does not exist.", model=model)

    return routes
