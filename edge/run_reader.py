"""Reading a run to its end, over as many calls as it takes.

A durable run is in the log: when the replica that told it dies or drains, the reader goes on at another one, after
the last event that it has. A plain run dies with its replica; only a start that nothing came of is tried again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from edge.clients import ORCHESTRATOR, Clients, EventCall, attach_run
from fastchat.common.v1.event_pb2 import RunEvent
from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason
from kit.principal import acting_as
from kit.telemetry import get_logger

log = get_logger(__name__)

# Longest time without a new event before a broken stream is given up, seconds.
DURABLE_PATIENCE_S = 30.0
PLAIN_PATIENCE_S = 2.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
# CANCELLED, when it was not us: the replica cut what was still running as it stopped
_BROKEN = frozenset({Reason.DEPENDENCY_UNAVAILABLE, Reason.DRAINING, Reason.CIRCUIT_OPEN, Reason.CANCELLED})
_TERMINAL = ("complete", "error")

# after_sequence -> a call; 0: from the start
Open = Callable[[int], EventCall]


class RunReader:
    """The events of one run, each once and in order."""

    def __init__(self, open_call: Open, *, durable: bool, after: int = 0) -> None:
        self._open = open_call
        self._durable = durable
        self._patience_s = DURABLE_PATIENCE_S if durable else PLAIN_PATIENCE_S
        self._call = open_call(after)
        self._left: PlatformError | None = None
        self.last = after
        self.ended = False

    async def read(self) -> list[RunEvent]:
        """The next events; empty after the last. Once `leave` was called: what that said, else CANCELLED."""
        if self.ended:
            return []
        events = await self._next()
        if self._left is not None:
            self._call.leave()
            raise self._left
        fresh = events if events[0].sequence == self.last + 1 else [e for e in events if e.sequence > self.last]
        if not fresh:
            return await self.read()
        self.last = fresh[-1].sequence
        self.ended = fresh[-1].WhichOneof("payload") in _TERMINAL
        return fresh

    async def _next(self) -> list[RunEvent]:
        broken_since: float | None = None
        pause = _FIRST_PAUSE_S
        while True:
            try:
                events = await self._call.read()
                if events:
                    return events
                failure = _interrupted()
            except PlatformError as error:
                if self._left is not None:
                    raise self._left from None
                if error.reason not in _BROKEN:
                    raise
                failure = _interrupted() if error.reason is Reason.CANCELLED else error
            now = asyncio.get_running_loop().time()
            broken_since = broken_since or now
            if not self._may_retry or now - broken_since > self._patience(failure):
                raise failure
            log.info("run.reopened", after=self.last, reason=failure.reason.name)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            if self._left is not None:
                raise self._left
            self._call = self._open(self.last)

    @property
    def _may_retry(self) -> bool:
        return self._durable or self.last == 0

    def _patience(self, failure: PlatformError) -> float:
        """A replica that answers, and says that it cannot begin the run now, has refused it: it did not die."""
        refused = self.last == 0 and failure.metadata.get("dependency", ORCHESTRATOR) != ORCHESTRATOR
        return min(PLAIN_PATIENCE_S, self._patience_s) if refused else self._patience_s

    @property
    def left(self) -> bool:
        """Whether `leave` was called."""
        return self._left is not None

    def leave(self, why: PlatformError | None = None) -> None:
        """Stop reading: cancels a plain run, leaves a durable one to itself. Reads then fail with `why`.

        A durable run that told nothing yet is awaited first: what was written for it depends on whether it began.
        """
        self._left = self._left or why or PlatformError(Reason.CANCELLED, "The reader left.")
        if not self._durable or self.last:
            self._call.leave()

    def close(self) -> None:
        """Leave, unless it was read to its end. Safe to repeat."""
        if not self.ended:
            self.leave()


def _interrupted() -> PlatformError:
    return PlatformError(Reason.RUN_INTERRUPTED, "The run's stream ended before the run did.")


def attached(clients: Clients, principal: Principal, run_id: str, after: int = 0) -> RunReader:
    """A reader of a durable run, as the principal, from the event after `after`."""

    def open_call(last: int) -> EventCall:
        with acting_as(principal):
            return attach_run(clients, principal.tenant_id, run_id, last)

    return RunReader(open_call, durable=True, after=after)
