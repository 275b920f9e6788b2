"""The server's interceptors put together: each method's handler is wrapped once, when it is first called.

Streams are written by `context.write` from one `async for` over the handler's generator; nothing else runs per
message. Measured on grpcio 1.85 (docs/decisions/0010) this costs what handing gRPC the handler's own generator costs,
since gRPC's loop calls the same write; and it is the only way in which cancellation reaches the handler at once: gRPC
drops a cancelled generator to the garbage collector, which closes it later, in another task and context. A handler
that delegates to another async generator must close it the same way (`contextlib.aclosing`).
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
import grpc.aio

from kit import principal as principals
from kit.admission import Admission
from kit.errors import PlatformError, Reason
from kit.interceptors import tenant
from kit.interceptors.call import Context, Method, ServerCall, StreamBehavior
from kit.interceptors.deadline import DeadlineConfig, bounded
from kit.interceptors.errors import refuse
from kit.interceptors.principal import Authenticate
from kit.interceptors.telemetry import observed

if TYPE_CHECKING:  # generic in the stubs only
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
Inner = Callable[[Any, Context], Awaitable[Any]]


class ServerStack(grpc.aio.ServerInterceptor):
    """Telemetry > errors > admission > principal > deadline > tenant guard > handler."""

    def __init__(
        self, authenticate: Authenticate, admission: Admission, deadlines: DeadlineConfig, *, trusted: bool = True
    ) -> None:
        """`trusted`: callers are services of the mesh, whose word on the class of work counts."""
        self._trusted = trusted
        self._authenticate = authenticate
        self._admission = admission
        self._deadlines = deadlines
        self._wrapped: dict[str, Handler] = {}
        self._watching: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._cut: set[asyncio.Task[Any]] = set()

    def end_watches(self) -> None:
        """End all subscriptions (Watch...), which nothing else would end, with DRAINING."""
        self._end(self._watching)

    def end_all(self) -> None:
        """End everything that runs with DRAINING: callers then know that another replica may do it."""
        self._end(self._watching | self._running)

    def _end(self, calls: set[asyncio.Task[Any]]) -> None:
        self._cut |= calls
        for call in list(calls):
            call.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The wrapped handler of the method called; None (gRPC answers UNIMPLEMENTED) for an unknown one."""
        path = str(handler_call_details.method)
        found = self._wrapped.get(path)
        if found is not None:
            return found
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = Method(path, handler.request_streaming, handler.response_streaming)
        wrapped = self._wrapped[path] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: Method, handler: "Handler") -> "Handler":
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        limit_s = self._deadlines.limit(method)
        if not method.response_streaming:
            unary = handler.stream_unary if method.request_streaming else handler.unary_unary
            served = self._around(method, limit_s, _coroutine(unary, method))
            make = (
                grpc.stream_unary_rpc_method_handler
                if method.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            return make(served, **serializers)
        stream = handler.stream_stream if method.request_streaming else handler.unary_stream
        served = self._around(method, limit_s, _writer(stream, method))
        make_stream = (
            grpc.stream_stream_rpc_method_handler if method.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make_stream(served, **serializers)

    def _around(self, method: Method, limit_s: float, inner: Inner) -> Inner:
        inner = self._tracked(method, inner)
        return inner if method.exempt else self._served(method, limit_s, inner)

    def _tracked(self, method: Method, inner: Inner) -> Inner:
        """The handler as a call that a drain can end."""
        group = self._watching if method.watch else self._running

        async def tracked(request: Any, context: Context) -> Any:
            task = cast("asyncio.Task[Any]", asyncio.current_task())  # gRPC runs every call in a task of its own
            group.add(task)
            try:
                return await inner(request, context)
            except asyncio.CancelledError:
                if task not in self._cut or method.exempt:
                    raise
                raise PlatformError(Reason.DRAINING, "The service is about to stop.", retry_after_s=1.0) from None
            finally:
                group.discard(task)
                self._cut.discard(task)

        return tracked

    def _served(self, method: Method, limit_s: float, inner: Inner) -> Inner:
        authenticate, admission, trusted = self._authenticate, self._admission, self._trusted

        async def served(request: Any, context: Context) -> Any:
            call = ServerCall(method, context, trusted=trusted)
            with observed(call):
                try:
                    with admission.slot(call.work_class):
                        who = await authenticate(call)
                        principals.bind(who)
                        if method.request_streaming:
                            request = tenant.checked(request, who)
                        else:
                            tenant.check(request, who)
                        async with bounded(call, limit_s):
                            return await inner(request, context)
                except (Exception, asyncio.CancelledError) as error:
                    await refuse(call, error)

        return served


def _coroutine(behavior: Any, method: Method) -> Inner:
    if not inspect.iscoroutinefunction(behavior):
        raise TypeError(f"{method.path}: the handler must be an async function")
    handler: Inner = behavior
    return handler


def _writer(behavior: Any, method: Method) -> Inner:
    """A streaming handler as a coroutine that writes. Handlers that write by themselves stay as they are."""
    if inspect.iscoroutinefunction(behavior):
        return _coroutine(behavior, method)
    if not inspect.isasyncgenfunction(behavior):
        raise TypeError(f"{method.path}: the handler must be an async generator or an async function")
    generate: StreamBehavior = behavior

    async def write_all(request: Any, context: Context) -> None:
        write = context.write
        async with aclosing(generate(request, context)) as messages:
            async for message in messages:
                await write(message)

    return write_all
