"""ModelService over gRPC: validates, delegates, converts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from fastchat.integration.v1.model_service_pb2 import (
    CallModelRequest,
    CallModelResponse,
    CountTokensRequest,
    CountTokensResponse,
    ListModelsRequest,
    ListModelsResponse,
    ModelCall,
    StreamModelRequest,
    StreamModelResponse,
)
from fastchat.integration.v1.model_service_pb2_grpc import ModelServiceServicer
from integration.pacing import Pacer
from kit.errors import PlatformError

if TYPE_CHECKING:
    # at run time it would import LiteLLM with it
    from integration.models.gateway import Gateway

Context = grpc.aio.ServicerContext[object, object]


class ModelServicer(ModelServiceServicer):
    """The model gateway's rpcs."""

    def __init__(self, gateway: Gateway, pacer: Pacer) -> None:
        self._gateway = gateway
        self._pacer = pacer

    async def CallModel(self, request: CallModelRequest, context: Context) -> CallModelResponse:
        """The whole answer."""
        return CallModelResponse(result=await self._gateway.call(_checked(request.call)))

    async def StreamModel(self, request: StreamModelRequest, context: Context) -> AsyncIterator[StreamModelResponse]:
        """The answer piece by piece. Leaving the call closes the request to the provider."""
        answer = self._gateway.stream(_checked(request.call), request.usage_every_tokens)
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                yield piece
                if piece.HasField("token"):
                    await self._pacer.turn()

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """Aliases of the tenant."""
        _require("tenant_id", request.tenant_id)
        return ListModelsResponse(models=self._gateway.models(request.tenant_id))

    async def CountTokens(self, request: CountTokensRequest, context: Context) -> CountTokensResponse:
        """Tokens of a prompt."""
        _require("tenant_id", request.tenant_id)
        _require("model_alias", request.model_alias)
        return await self._gateway.count(request)


def _checked(call: ModelCall) -> ModelCall:
    _require("call.tenant_id", call.tenant_id)
    _require("call.model_alias", call.model_alias)
    return call


def _require(field: str, value: str) -> None:
    if not value:
        raise PlatformError.invalid(field, f"{field} is missing.")
