"""The transactional outbox: a database change and the job that it asks for are committed together, or not at all.

    async with database.tenant(tenant_id) as session:
        session.add(row)
        await add(session, "runs", "start", payload, key=run_id, principal=current())

The relay puts the job on the bus at least once; the queue drops repeats of a key, and handlers are idempotent by it.
A service's migration makes the table with `create_outbox()`.
"""

import asyncio

import structlog

from fastchat.common.v1.principal_pb2 import Principal
from kit.bus import Bus
from kit.db import Database, Session, outbox_rows
from kit.db.outbox_rows import OutboxRow, create_outbox, outbox_table
from kit.errors import PlatformError, Reason
from kit.jobs import JobQueue
from kit.jobs.job import headers_of
from kit.telemetry import inject

__all__ = ["OutboxRow", "Relay", "add", "create_outbox", "outbox_table"]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_BATCH = 100
# The outbox is looked at this often even when nobody says that there is something: another replica may have died.
_POLL_S = 2.0
# What a retry cannot mend: the row stays, is counted, and lets others pass.
_HOPELESS = (Reason.PAYLOAD_TOO_LARGE,)


async def add(
    session: Session, queue: str, kind: str, payload: bytes, key: str, principal: Principal | None = None
) -> None:
    """Ask for a job in the session's transaction. See JobQueue.enqueue for the arguments."""
    outbox_rows.insert(session, queue, kind, payload, key, principal, inject())


class Relay:
    """Carries one database's outbox to the bus. Every replica may run one."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._queues: dict[str, JobQueue] = {}

    def nudge(self) -> None:
        """Look now. `add` does so by itself when its transaction commits."""
        self._database.outbox_added.set()

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Carry until `stop` is set (or the task is cancelled). Goes on when bus or database are away."""
        stop = stop or asyncio.Event()
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stopped.done():
                self._database.outbox_added.clear()
                try:
                    await self.flush()
                except PlatformError as error:
                    log.warning("outbox.waiting", service=self._database.service, why=error.message)
                await self._wait(stopped)
        finally:
            stopped.cancel()

    async def flush(self) -> int:
        """Carry what is there now; returns how many jobs. Raises when the bus or the database is away."""
        carried = 0
        while True:
            rows = await outbox_rows.oldest(self._database, _BATCH)
            done = [row.id for row in rows if await self._put(row)]
            if done:
                await outbox_rows.remove(self._database, done)
            carried += len(done)
            if len(rows) < _BATCH or not done:
                return carried

    async def _put(self, row: OutboxRow) -> bool:
        queue = self._queues.setdefault(row.queue, JobQueue(self._bus, row.queue))
        headers = headers_of(row.queue, row.kind, row.key, row.as_principal(), row.trace_headers())
        try:
            await queue.put(row.kind, row.payload, headers)
        except PlatformError as error:
            if error.reason not in _HOPELESS:
                raise
            log.error("outbox.refused", service=self._database.service, queue=row.queue, key=row.key, why=error.message)
            await outbox_rows.count_failure(self._database, row.id)
            return False
        return True

    async def _wait(self, stopped: "asyncio.Task[bool]") -> None:
        added = asyncio.create_task(self._database.outbox_added.wait())
        try:
            await asyncio.wait({added, stopped}, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            added.cancel()
