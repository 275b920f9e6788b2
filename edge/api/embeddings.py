"""POST /v1/embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.api.bodies import EMBEDDINGS_BODY
from edge.auth import identity
from edge.clients import told
from edge.openai.embeddings import embeddings_json, parse_embeddings
from edge.permission import Permission
from fastchat.integration.v1 import model_service_pb2 as pb
from kit.errors import PlatformError

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


def router(deps: EdgeDeps) -> APIRouter:
    """The route of embeddings."""
    routes = APIRouter(tags=["embeddings"])
    permission = Permission(deps.policy, deps.audit)

    @routes.post("/v1/embeddings", response_model=None, openapi_extra=EMBEDDINGS_BODY)
    async def create_embeddings(request: Request) -> Response:
        """Vectors for texts."""
        principal = identity(request.scope).principal
        call, encoding = parse_embeddings(await request.body())
        if not call.model_alias:
            raise PlatformError.invalid("model", "Missing required parameter: 'model'.")
        await permission.require(principal, "embedding.create", "Embedding", call.model_alias)
        call.tenant_id = principal.tenant_id
        answer = await told(deps.clients.models.CallModel(pb.CallModelRequest(call=call)), "integration")
        body = embeddings_json(answer.result, call.model_alias, encoding)
        return Response(orjson.dumps(body), media_type="application/json")

    return routes
