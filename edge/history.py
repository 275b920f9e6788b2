"""The durable writer: answers reach their threads even when the edge that served their readers is gone.

The orchestrator enqueues a job on queue "history" before it lets go of an ended run with a thread. Whichever edge
takes it reads the run from its log, folds it and commits. The edge that served the reader has mostly done so
already; committing is safe to repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from edge.clients import Clients
from edge.projections.fold import Answer
from edge.run_reader import attached
from edge.threads import Threads
from kit.errors import PlatformError, Reason
from kit.principal import service_principal
from kit.telemetry import get_logger

if TYPE_CHECKING:
    from kit.jobs import Job, JobQueue

log = get_logger(__name__)

QUEUE = "history"
CONCURRENCY = 8
# Longest time for one run's events to be read from the log, seconds.
_READ_LIMIT_S = 60.0


class History:
    """Commits answers of ended runs."""

    def __init__(self, clients: Clients, threads: Threads) -> None:
        self._clients = clients
        self._threads = threads

    async def work(self, queue: JobQueue, stop: asyncio.Event) -> None:
        """Take jobs until `stop` is set."""
        handler: Callable[[Job], Awaitable[None]] = self.handle
        await queue.work(handler, CONCURRENCY, stop)

    async def handle(self, job: Job) -> None:
        """One job: {"tenant_id", "run_id", "thread_id"}."""
        told: dict[str, Any] = orjson.loads(job.payload)
        await self.write(told["tenant_id"], told["run_id"])

    async def write(self, tenant_id: str, run_id: str) -> None:
        """Read the run and commit its answer. Safe to repeat."""
        try:
            answer = await self._read(tenant_id, run_id)
        except PlatformError as error:
            if error.reason is not Reason.RUN_NOT_FOUND:
                raise
            # purged after an earlier commit, or erased with its tenant
            log.info("history.run_gone", run_id=run_id)
            return
        if answer.thread_id:
            await self._threads.commit(tenant_id, answer)

    async def _read(self, tenant_id: str, run_id: str) -> Answer:
        reader = attached(self._clients, service_principal("edge", tenant_id), run_id)
        answer = Answer()
        try:
            async with asyncio.timeout(_READ_LIMIT_S):
                while events := await reader.read():
                    for event in events:
                        answer.feed(event)
        finally:
            reader.close()
        return answer
