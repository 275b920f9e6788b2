"""Stopping runs: recorded in SQL, so that no crash forgets it, and told to the owner, so that it happens now."""

from __future__ import annotations

import orjson

from kit.bus import Bus
from kit.errors import PlatformError, Reason
from kit.telemetry import get_logger
from orchestrator import lifecycle
from orchestrator.executor import Executor
from orchestrator.feed import RunKey
from orchestrator.store import RunRow, RunStore

log = get_logger(__name__)

SUBJECT = "fc.orchestrator.cancel"


class Cancels:
    """Cancels durable runs, wherever they are executed."""

    def __init__(self, bus: Bus, store: RunStore, executor: Executor) -> None:
        self._bus = bus
        self._store = store
        self._executor = executor

    async def cancel(self, key: RunKey, cause: str) -> RunRow:
        """The run as it stood then. RUN_NOT_FOUND; NOT_CANCELLABLE when it has ended."""
        row = await self._store.request_cancel(key, cause)
        if row is None:
            raise PlatformError(Reason.RUN_NOT_FOUND, f"No such run: {key[1]}", id=key[1])
        if row.ended_at is not None:
            state = lifecycle.label(row.status)
            raise PlatformError(Reason.NOT_CANCELLABLE, f"The run has ended: it is {state}.", status=state)
        log.info("cancellation recorded", run_id=key[1], cause=cause)
        if not self._executor.cancel(key):
            await self._nudge(key)
        return row

    async def _nudge(self, key: RunKey) -> None:
        try:
            await self._bus.publish(SUBJECT, orjson.dumps(key))
        except PlatformError as away:
            # The owner reads SQL on its heartbeat, so it hears of it a second later.
            log.warning("owner not told of the cancellation", run_id=key[1], reason=away.reason.name)

    async def hear(self, message: bytes) -> None:
        """Another replica recorded a cancellation."""
        tenant_id, run_id = orjson.loads(message)
        self._executor.cancel((tenant_id, run_id))
