"""How many messages a second this process sends: under load, streams wait their turn and their chunks merge.

A gRPC message costs about half a millisecond of CPU over the whole mesh, whatever is in it. While a stream waits, the
provider's chunks gather in its socket and leave together; nothing is lost, and below the limit nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# How much of a second may be sent at once after a quiet while.
_BURST_S = 0.05
# Shorter waits cost more than they bring: a timer's turn of the loop is about that long.
_WORTH_WAITING_S = 0.001


class Pacer:
    """A leaky bucket (GCRA) shared by all streams of a process. `now` is a monotonic clock, seconds."""

    def __init__(self, messages_per_s: float, now: Callable[[], float]) -> None:
        self._interval = 1.0 / messages_per_s
        self._now = now
        self._due = 0.0

    def reserve(self) -> float:
        """Take the next turn; how long until it comes, seconds."""
        now = self._now()
        self._due = max(self._due, now - _BURST_S) + self._interval
        return max(0.0, self._due - now)

    async def turn(self) -> None:
        """Wait for the next turn."""
        wait = self.reserve()
        if wait > _WORTH_WAITING_S:
            await asyncio.sleep(wait)
