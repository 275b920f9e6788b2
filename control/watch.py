"""What services are told: a snapshot, then every change in the order of the one counter, and a sign of life.

A change reaches every replica of control by a nudge over NATS, or else by the next look at the database; each replica
tells its own watchers. Order needs no agreement between replicas: it is that of the commits (control.store.unit).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from control.config import ControlConfig
from control.store import Head, ResourceRow, Store, feed
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from kit.bus import Bus
from kit.db import utc_now
from kit.errors import PlatformError, Reason
from kit.health import Health
from kit.telemetry import get_logger, metrics

SUBJECT: Final = "fc.control.changed"

_log = get_logger(__name__)
_ROWS: Final = 500
_BYTES: Final = 2 * 1024 * 1024
# So long without a look at the database, and no sign of life is given: watchers must not believe they are up to date.
_BLIND_S: Final = 3.0
_PRUNE_S: Final = 3600.0

_revision = metrics.gauge("fastchat_settings_revision", "Newest revision of the configuration.")
_watchers = metrics.gauge("fastchat_settings_watchers", "Watchers connected to this replica of control.")
_acknowledged = metrics.gauge(
    "fastchat_settings_acknowledged_revision", "Revision that a connected watcher has applied.", ("watcher",)
)


class Feed:
    """Knows the newest revision, and streams what is told."""

    def __init__(self, store: Store, config: ControlConfig, bus: Bus | None, health: Health) -> None:
        self._store = store
        self._config = config
        self._bus = bus
        self._health = health
        self._head = Head(0, 0)
        self._looked_at = 0.0
        self._nudged = asyncio.Event()
        self._to_tell = asyncio.Event()
        self._moved = asyncio.Event()
        self._closed = False

    @property
    def revision(self) -> int:
        """Newest revision seen."""
        return self._head.revision

    def announce(self, revision: int) -> None:
        """A change was committed here: look now, and tell the other replicas."""
        self._nudged.set()
        self._to_tell.set()

    def close(self) -> None:
        """End every stream: control is going down."""
        self._closed = True
        self._wake()

    async def look(self) -> None:
        """Ask the database where the counter stands."""
        async with self._store.read("") as unit:
            head = await feed.head(unit)
        self._looked_at = time.monotonic()
        if head != self._head:
            self._head = head
            _revision.set(head.revision)
            self._wake()

    async def run(self) -> None:
        """Follow the counter until cancelled."""
        unsubscribe = await self._subscribe()
        try:
            while True:
                # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the result.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.poll_s):
                        await self._nudged.wait()
                self._nudged.clear()
                if unsubscribe is None:
                    unsubscribe = await self._subscribe()
                await self._look_or_report()
        finally:
            if unsubscribe is not None:
                with contextlib.suppress(PlatformError):
                    await unsubscribe()

    async def tell_replicas(self) -> None:
        """Send nudges until cancelled; a nudge that is lost costs one poll interval."""
        while True:
            await self._to_tell.wait()
            self._to_tell.clear()
            if self._bus is not None:
                with contextlib.suppress(PlatformError):
                    await self._bus.publish(SUBJECT, b"")

    async def prune(self) -> None:
        """Forget what was removed long ago, once an hour, until cancelled."""
        while True:
            with contextlib.suppress(PlatformError):
                async with self._store.write("") as unit:
                    await feed.prune(unit, utc_now() - timedelta(seconds=self._config.tombstones_s))
            await asyncio.sleep(_PRUNE_S)

    async def stream(
        self, kinds: Sequence[ResourceKind.ValueType], revision: int
    ) -> AsyncIterator[WatchSettingsResponse]:
        """Batches for a watcher that has applied `revision` (0: nothing), until control closes.

        STORAGE_UNAVAILABLE when the database has not been seen for a while.
        """
        await self.look()
        sent = revision
        if not self._head.floor <= revision <= self._head.revision or not revision:
            async for part in self.snapshot(kinds):
                yield part
                sent = part.revision
        while not self._closed:
            batch, more = await self._changes(kinds, sent)
            yield batch
            sent = batch.revision
            if not more:
                await self._wait(sent)

    async def snapshot(self, kinds: Sequence[ResourceKind.ValueType]) -> AsyncIterator[WatchSettingsResponse]:
        """Everything that exists, in parts of bounded size; the last is marked, and has the revision.

        The revision is that from before the first page was read, so that whatever changes meanwhile is told again.
        """
        async with self._store.read("") as unit:
            revision = (await feed.head(unit)).revision
        after = 0
        while True:
            async with self._store.read("") as unit:
                rows = await feed.changes(unit, after, _ROWS, kinds, removed=False)
            part = _bounded(rows)
            resources = [_resource(row) for row in part]
            if len(part) == len(rows) < _ROWS:
                yield WatchSettingsResponse(resources=resources, revision=revision, snapshot=True, time=_now())
                return
            yield WatchSettingsResponse(resources=resources, time=_now())
            after = part[-1].revision

    async def _changes(self, kinds: Sequence[ResourceKind.ValueType], sent: int) -> tuple[WatchSettingsResponse, bool]:
        """What changed after `sent`, and whether there is more."""
        head = self._head.revision
        if head <= sent:
            if time.monotonic() - self._looked_at > _BLIND_S:
                raise PlatformError(Reason.STORAGE_UNAVAILABLE, "Control cannot see its database.", store="control")
            return WatchSettingsResponse(revision=sent, time=_now()), False
        async with self._store.read("") as unit:
            rows = await feed.changes(unit, sent, _ROWS, kinds)
        part = _bounded(rows)
        more = len(part) < len(rows) or len(rows) == _ROWS
        # All rows up to `head` were committed before they were read; of more pages, this one's end is the truth.
        revision = part[-1].revision if more else max(head, part[-1].revision if part else 0)
        resources = [_resource(row) for row in part]
        return WatchSettingsResponse(resources=resources, revision=revision, time=_now()), more

    async def _wait(self, sent: int) -> None:
        """Until something newer is there, or a sign of life is due."""
        moved = self._moved
        if self._head.revision > sent or self._closed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.heartbeat_s):
                await moved.wait()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _look_or_report(self) -> None:
        try:
            await self.look()
        except PlatformError as error:
            self._health.set("database", False, error.message, "services go on with their last settings")
        else:
            self._health.set("database", True)

    async def _subscribe(self) -> Callable[[], Awaitable[None]] | None:
        if self._bus is None:
            return None
        try:
            return await self._bus.subscribe(SUBJECT, lambda _: self._nudged.set())
        except PlatformError:
            return None  # tried again with the next look


class Acknowledgements:
    """Who watches, and what each has applied: a metric, for as long as the watcher is connected."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._applied: dict[int, tuple[str, int]] = {}
        self._next = 0

    def join(self, watcher: str) -> int:
        """A watcher connected; returns its ticket. OVERLOADED when there are too many."""
        if len(self._applied) >= self._maximum:
            raise PlatformError(Reason.OVERLOADED, "Too many watchers.", retry_after_s=1.0)
        self._next += 1
        self._applied[self._next] = (watcher, 0)
        _watchers.inc()
        return self._next

    def applied(self, ticket: int, revision: int) -> None:
        """A watcher has applied a revision."""
        watcher, _ = self._applied[ticket]
        self._applied[ticket] = (watcher, revision)
        _acknowledged.labels(watcher).set(revision)

    def leave(self, ticket: int) -> None:
        """A watcher is gone."""
        watcher, _ = self._applied.pop(ticket)
        _watchers.dec()
        if all(other != watcher for other, _ in self._applied.values()):
            with contextlib.suppress(KeyError):
                _acknowledged.remove(watcher)

    def revisions(self) -> dict[str, int]:
        """Revision applied, by watcher."""
        return dict(self._applied.values())


def _bounded(rows: Sequence[ResourceRow]) -> list[ResourceRow]:
    """As many of the rows as one message should hold, at least one."""
    part: list[ResourceRow] = []
    size = 0
    for row in rows:
        size += len(row.body)
        if part and size > _BYTES:
            break
        part.append(row)
    return part


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now


def _resource(row: ResourceRow) -> Resource:
    return Resource(
        kind=ResourceKind.ValueType(row.kind),
        tenant_id=row.tenant_id,
        workspace_id=row.workspace_id,
        name=row.name,
        revision=row.revision,
        body_json=row.body,
        deleted=row.deleted,
    )
