"""A run's events in memory, for readers on the replica that executes it; never ahead of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from fastchat.common.v1.event_pb2 import RunEvent

RunKey = tuple[str, str]
"""Tenant id, run id."""


# Events in one message to a reader; bounds the message of a reader that catches up.
_BATCH = 64


class Feed:
    """Events that were appended by this replica, from the first that it appended on."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._events: list[RunEvent] = []
        self._closed = False
        self._changed = asyncio.Event()

    def publish(self, events: Sequence[RunEvent]) -> None:
        """Adds events whose append was acknowledged."""
        self._events.extend(events)
        self._wake()

    def close(self) -> None:
        """No more will come from this replica. Readers that lack the terminal event go on from the log."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def covers(self, after: int) -> bool:
        """Whether a reader with that cursor can be served without a gap, and without waiting for a dead feed."""
        head = self._after + len(self._events)
        return self._after <= after <= head and not (self._closed and after == head)

    async def read(self, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """Events after the cursor, as many at once as are there, until the feed closes."""
        position = after - self._after
        while True:
            if ready := self._events[position : position + _BATCH]:
                position += len(ready)
                yield ready
                continue
            if self._closed:
                return
            await self._changed.wait()


class Feeds:
    """Feeds of the runs that this replica executes."""

    def __init__(self) -> None:
        self._feeds: dict[RunKey, Feed] = {}

    def open(self, key: RunKey, after: int) -> Feed:
        """A feed that begins after an event number; replaces (and closes) an older one of the run."""
        older = self._feeds.get(key)
        if older is not None:
            older.close()
        feed = self._feeds[key] = Feed(after)
        return feed

    def remove(self, key: RunKey, feed: Feed) -> None:
        """Forgets a feed, unless a newer one took its place."""
        feed.close()
        if self._feeds.get(key) is feed:
            del self._feeds[key]

    def covering(self, key: RunKey, after: int) -> Feed | None:
        """A feed that can serve a reader with that cursor."""
        feed = self._feeds.get(key)
        return feed if feed is not None and feed.covers(after) else None
