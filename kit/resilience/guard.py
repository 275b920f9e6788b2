"""One dependency's guard: bulkhead, breaker, timeout and retries around what calls it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc.aio
import stamina
from stamina.instrumentation import set_on_retry_hooks

from kit.deadline import timeout_for
from kit.errors import PlatformError, Reason
from kit.resilience.breaker import Breaker
from kit.resilience.bulkhead import Bulkhead
from kit.resilience.policy import Policy
from kit.telemetry import metrics

T = TypeVar("T")

_retries = metrics.counter("fastchat_retries_total", "Calls tried again.", ("dependency",))

# Reasons that say something about the dependency's health, not about the request.
_FAULTS = frozenset(
    {
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.DEADLINE_EXCEEDED,
        Reason.UPSTREAM_ERROR,
        Reason.UPSTREAM_TIMEOUT,
        Reason.UPSTREAM_INTERRUPTED,
        Reason.STORAGE_UNAVAILABLE,
        Reason.INTERNAL,
    }
)
# Refusals that come back the same however soon one asks again.
_FINAL = frozenset({Reason.CIRCUIT_OPEN, Reason.THREAD_BUSY, Reason.FENCED, Reason.RUN_INTERRUPTED})


class Guard:
    """`await guard.call(fn)` for calls with one answer, `async with guard.slot():` around a stream."""

    def __init__(self, name: str, policy: Policy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.policy = policy or Policy()
        self.breaker = Breaker(name, self.policy.breaker, clock)
        self.bulkhead = Bulkhead(name, self.policy.bulkhead)

    async def call(self, fn: Callable[[], Awaitable[T]], *, retry: bool = True) -> T:
        """The answer of `fn`, called again (a new awaitable each time) after errors that may pass.

        `retry=False` for what must not happen twice. Every attempt passes bulkhead and breaker, and has the policy's
        timeout or what is left of the request's deadline. gRPC errors come out as PlatformError.
        """
        policy = self.policy
        if not retry or not policy.retries:
            return await self._attempt(fn)
        set_on_retry_hooks([])  # stamina's own would log arguments and fill the default registry
        attempts = stamina.retry_context(
            on=self._again,
            attempts=policy.retries + 1,
            timeout=timeout_for(None),
            wait_initial=policy.backoff_s,
            wait_max=policy.backoff_max_s,
            wait_jitter=policy.jitter_s,
        )
        async for attempt in attempts:
            with attempt:
                return await self._attempt(fn)
        raise AssertionError("stamina raises the last error")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Bulkhead and breaker around a block; an exception that leaves it tells the breaker. No timeout, no retry."""
        async with self.bulkhead.place(self.policy.timeout_s or None):
            self.breaker.before()
            try:
                yield
            except grpc.aio.AioRpcError as error:
                told = PlatformError.from_rpc(error, self.name)
                self._judge(told)
                raise told from error
            except BaseException as error:
                self._judge(error)
                raise
            self.breaker.succeeded()

    async def _attempt(self, fn: Callable[[], Awaitable[T]]) -> T:
        async with self.slot():
            limit = timeout_for(self.policy.timeout_s or None)
            try:
                async with asyncio.timeout(limit) as scope:
                    return await fn()
            except TimeoutError as error:
                if not scope.expired():
                    raise
                message = f"{self.name} did not answer within {limit:g} s."
                raise PlatformError(Reason.DEADLINE_EXCEEDED, message, dependency=self.name) from error

    def _judge(self, error: BaseException) -> None:
        """Tell the breaker what an error says about the dependency."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self.breaker.abandoned()
        elif isinstance(error, PlatformError) and error.reason not in _FAULTS:
            self.breaker.succeeded()  # it answered
        else:
            self.breaker.failed()

    def _again(self, error: Exception) -> bool | float:
        """Whether to try again, or the seconds to wait first when the dependency told them."""
        if not isinstance(error, PlatformError) or not error.row.retryable or error.reason in _FINAL:
            return False
        wait = error.retry_after_s
        if wait is not None and wait > self.policy.backoff_max_s:
            return False
        _retries.labels(self.name).inc()
        return True if wait is None else wait
