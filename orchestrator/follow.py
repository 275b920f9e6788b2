"""Reading a durable run from a cursor: from memory where this replica executes it, else from its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastchat.common.v1.event_pb2 import RunEvent
from kit.errors import PlatformError, Reason
from kit.eventlog import EventLog, LogKey
from orchestrator.events import is_terminal
from orchestrator.feed import Feeds, RunKey
from orchestrator.fold import RunFold
from orchestrator.readers import Readers
from orchestrator.store import RunRow, RunStore

# A silent log may be a log that was lost: SQL knows.
_SILENCE_S = 5.0


class Follower:
    """Streams of runs' events for readers."""

    def __init__(self, log: EventLog, store: RunStore, feeds: Feeds, readers: Readers) -> None:
        self._log = log
        self._store = store
        self._feeds = feeds
        self._readers = readers

    async def attach(self, row: RunRow, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """Events after the cursor, to the terminal one, as many at once as are ready.

        CURSOR_AHEAD past the head, CURSOR_EXPIRED when the log is gone.
        """
        key = (row.tenant_id, row.run_id)
        with self._readers.reading(key):
            if row.purged_at is not None:
                raise _expired(row)
            if after and await self._has_all(row, after):
                return
            async with aclosing(self._follow(key, after)) as stream:
                async for events in stream:
                    yield events

    async def _has_all(self, row: RunRow, after: int) -> bool:
        """Whether the cursor is the end of an ended run. CURSOR_AHEAD past the head: nobody can have seen an event
        that is not in the log, so such a cursor is wrong, not early."""
        key = (row.tenant_id, row.run_id)
        if self._feeds.covering(key, after) is not None:
            return False
        if row.ended_at is not None:
            head, ended = row.last_sequence, True
        else:
            fold = RunFold.of(await self._log.read(LogKey(*key)))
            head, ended = fold.last_sequence, fold.ended
        if after > head:
            raise _ahead(head)
        return ended and after == head

    async def _follow(self, key: RunKey, after: int) -> AsyncGenerator[list[RunEvent], None]:
        position = after
        while True:
            feed = self._feeds.covering(key, position)
            source = feed.read(position) if feed is not None else self._tail(key, position)
            async with aclosing(source):
                async for events in source:
                    if not events:
                        return
                    yield events
                    position = events[-1].sequence
                    if is_terminal(events[-1]):
                        return
            lost_touch = feed is None and self._feeds.covering(key, position) is None
            if lost_touch and not await self._goes_on(key, position):
                return

    async def _tail(self, key: RunKey, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """The log's events, until this replica can serve the run from memory, or the log stays silent.

        An empty list says that the log has its end and the reader has all of it.
        """
        records = self._log.tail(LogKey(*key), after)
        position = after
        pending: asyncio.Future[bytes] | None = None
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(records))
                await asyncio.wait({pending}, timeout=_SILENCE_S)
                if not pending.done():
                    return
                try:
                    event = RunEvent.FromString(pending.result())
                except StopAsyncIteration:
                    yield []
                    return
                finally:
                    pending = None
                yield [event]
                position = event.sequence
                if is_terminal(event) or self._feeds.covering(key, position) is not None:
                    return
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.wait({pending})
            await records.aclose()

    async def _goes_on(self, key: RunKey, position: int) -> bool:
        """Whether a silent run may still bring something; an ended one whose log was lost does not."""
        row = await self._store.get(*key)
        if row is None:
            raise PlatformError(Reason.RUN_NOT_FOUND, "The run does not exist.", id=key[1])
        if row.purged_at is not None:
            raise _expired(row)
        if row.ended_at is not None and position > row.last_sequence:
            raise _ahead(row.last_sequence)
        return row.ended_at is None or position < row.last_sequence


def _ahead(last: int) -> PlatformError:
    text = "The cursor lies past the run's last event."
    return PlatformError(Reason.CURSOR_AHEAD, text, last=str(last))


def _expired(row: RunRow) -> PlatformError:
    text = "The run's events are no longer kept."
    return PlatformError(Reason.CURSOR_EXPIRED, text, first=str(row.last_sequence + 1))
