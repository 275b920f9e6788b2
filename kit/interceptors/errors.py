"""Exceptions of a handler as a gRPC status: PlatformError by the table, anything else INTERNAL with a trace id."""

import asyncio
from typing import NoReturn

import grpc
import grpc.aio

from kit.errors import STATUS_KEY, PlatformError, Reason
from kit.interceptors.call import ServerCall
from kit.telemetry import current_trace_id, get_logger

log = get_logger(__name__)

_GRPC_MESSAGE_CHARS = 256


async def refuse(call: ServerCall, error: BaseException) -> NoReturn:
    """End the call with the status of `error`. Raises: gRPC's abort is an exception."""
    if isinstance(error, asyncio.CancelledError):
        call.code = grpc.StatusCode.CANCELLED
        raise error
    if isinstance(error, grpc.aio.AbortError):  # a handler that ended the call itself
        call.code = _code_of(call)
        raise error
    platform = as_platform_error(error, call)
    call.code = platform.row.grpc_code
    status = platform.to_status()
    trailers = ((STATUS_KEY, status.SerializeToString()),)
    await call.context.abort(call.code, platform.message[:_GRPC_MESSAGE_CHARS], trailers)


def as_platform_error(error: BaseException, call: ServerCall) -> PlatformError:
    """The error to tell. What is not ours is logged here, once, and never shown."""
    if isinstance(error, PlatformError):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return PlatformError.from_rpc(error, "another service")
    log.error("unexpected error", method=call.method.path, exc_info=error)
    message = "Something went wrong on our side."
    return PlatformError(Reason.INTERNAL, message, trace_id=current_trace_id())


def _code_of(call: ServerCall) -> grpc.StatusCode:
    told = call.context.code()
    if isinstance(told, grpc.StatusCode):
        return told
    return next((code for code in grpc.StatusCode if code.value[0] == told), grpc.StatusCode.UNKNOWN)
