"""Takes the audit events of all services from the stream FC_AUDIT into the log."""

from __future__ import annotations

import asyncio

from control.audit import AuditLog, clipped
from kit.audit import audit_queue, events_of
from kit.bus import Bus
from kit.jobs import Job


class AuditConsumer:
    """Any number of replicas may run it; an event that comes twice is stored once."""

    def __init__(self, log: AuditLog, bus: Bus | None, workers: int) -> None:
        self._log = log
        self._bus = bus
        self._workers = workers

    async def run(self) -> None:
        """Work until cancelled. Without a bus there is nothing to take from."""
        if self._bus is not None:
            await audit_queue(self._bus).work(self._handle, self._workers, asyncio.Event())

    async def _handle(self, job: Job) -> None:
        await self._log.store([clipped(event) for event in events_of(job)])
