"""The services that the orchestrator calls: integration's models."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from fastchat.integration.v1.model_service_pb2 import (
    CallModelRequest,
    CountTokensRequest,
    ModelCall,
    ModelResult,
    StreamModelRequest,
    StreamModelResponse,
)
from fastchat.integration.v1.model_service_pb2_grpc import ModelServiceStub
from kit.errors import PlatformError, Reason

_NAME = "integration"
_COUNT_TIMEOUT_S = 3.0
_HEALTH_TIMEOUT_S = 2.0


class Models:
    """The model gateway over its channel. Errors are PlatformError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ModelServiceStub(channel)
        self._health = HealthStub(channel)

    async def stream(self, call: ModelCall, timeout_s: float, usage_every: int) -> AsyncIterator[StreamModelResponse]:
        """The answer piece by piece. Leaving the iterator early cancels the call."""
        rpc = self._stub.StreamModel(StreamModelRequest(call=call, usage_every_tokens=usage_every), timeout=timeout_s)
        try:
            async for piece in rpc:
                yield piece
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        finally:
            if not rpc.done():
                rpc.cancel()

    async def call(self, call: ModelCall, timeout_s: float) -> ModelResult:
        """The whole answer at once."""
        try:
            response = await self._stub.CallModel(CallModelRequest(call=call), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        result: ModelResult = response.result
        return result

    async def count(self, call: ModelCall, text: str) -> tuple[int, int]:
        """Tokens of the call's prompt, and of a text."""
        prompt = CountTokensRequest(
            tenant_id=call.tenant_id, model_alias=call.model_alias, messages=call.messages, tools=call.tools
        )
        answer = CountTokensRequest(tenant_id=call.tenant_id, model_alias=call.model_alias, input=[text])
        try:
            counted = await self._stub.CountTokens(prompt, timeout=_COUNT_TIMEOUT_S)
            if not text:
                return counted.tokens, 0
            return counted.tokens, (await self._stub.CountTokens(answer, timeout=_COUNT_TIMEOUT_S)).tokens
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error

    async def serving(self) -> bool:
        """Whether the gateway answers and says that it serves."""
        try:
            answer = await self._health.Check(HealthCheckRequest(), timeout=_HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)


def _translated(error: grpc.aio.AioRpcError) -> PlatformError:
    """A server that stops cuts its calls with CANCELLED: from here, that is a dependency that went away."""
    if error.code() is grpc.StatusCode.CANCELLED:
        return PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "The model gateway broke off.", dependency=_NAME)
    return PlatformError.from_rpc(error, _NAME)
