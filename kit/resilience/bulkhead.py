"""A bulkhead: so many calls to a dependency at once, and a short queue before it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.deadline import timeout_for
from kit.errors import PlatformError, Reason
from kit.resilience.policy import BulkheadPolicy

_RETRY_AFTER_S = 1.0


class Bulkhead:
    """Places for calls. Without a limit it costs nothing."""

    def __init__(self, name: str, policy: BulkheadPolicy) -> None:
        self.name = name
        self._policy = policy
        self._places = asyncio.Semaphore(policy.limit) if policy.limit else None
        self.waiting = 0

    @asynccontextmanager
    async def place(self, wait_s: float | None = None) -> AsyncIterator[None]:
        """Hold a place. OVERLOADED when the queue is full, or no place came free in time."""
        if self._places is None:
            yield
            return
        await self._take(self._places, wait_s)
        try:
            yield
        finally:
            self._places.release()

    async def _take(self, places: asyncio.Semaphore, wait_s: float | None) -> None:
        if not places.locked():
            await places.acquire()
            return
        if self.waiting >= self._policy.queue:
            raise self._full()
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout_for(wait_s)):
                await places.acquire()
        except TimeoutError as error:
            raise self._full() from error
        finally:
            self.waiting -= 1

    def _full(self) -> PlatformError:
        message = f"Too many calls to {self.name} are running."
        return PlatformError(Reason.OVERLOADED, message, retry_after_s=_RETRY_AFTER_S, dependency=self.name)
