"""A work queue over JetStream: enqueue once, execute at least once, on whichever replica is alive."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import structlog

from fastchat.common.v1.principal_pb2 import Principal
from kit.bus import Bus, Consumer, Delivery, StreamSpec, token
from kit.errors import PlatformError
from kit.jobs import job as wire
from kit.jobs.dead_letters import bury
from kit.jobs.job import Abandon, Job, Retry
from kit.principal import acting_as
from kit.telemetry import continued, inject

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Ends = set["asyncio.Future[Any]"]
Handler = Callable[[Job], Awaitable[None]]

_FETCH_S = 5.0
_AWAY_S = (0.2, 2.0)


class JobQueue:
    """One queue. Any number of replicas may enqueue and work on it.

    A job is done when its handler returns; while it runs it is kept from others by a sign of life every third of
    `ack_wait_s`, so that a dead worker's job is another's after `ack_wait_s`. A worker that was only slow may find that
    it is not alone: handlers are idempotent by `Job.key`. A job that failed `max_deliver` times is a dead letter.
    Payloads name things by id; they are not encrypted and hold no content.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        *,
        stream: str = "FC_JOBS",
        ack_wait_s: float = 2.0,
        max_deliver: int = 8,
        backoff_s: tuple[float, float] = (0.5, 60.0),
    ) -> None:
        self.name = name
        self._bus = bus
        self._stream = stream
        self._prefix = "fc.job" if stream == "FC_JOBS" else f"fc.{stream.removeprefix('FC_').lower()}"
        self._ack_wait_s = ack_wait_s
        self._max_deliver = max_deliver
        self._backoff_s = backoff_s
        self._ready = False

    async def enqueue(self, kind: str, payload: bytes, *, key: str, principal: Principal | None = None) -> bool:
        """Put a job; returns False if one with this key was put in the last two minutes or so (an optimisation only).

        It runs as `principal` (None: as nobody), inside the trace of this task.
        """
        return await self.put(kind, payload, wire.headers_of(self.name, kind, key, principal, inject()))

    async def put(self, kind: str, payload: bytes, headers: dict[str, str]) -> bool:
        """Put a job whose headers were made before (kit.outbox)."""
        await self._open()
        subject = self._subject(headers[wire.KEY])
        message_id = f"{self.name}:{headers[wire.KEY]}"
        _, duplicate = await self._bus.append(subject, payload, headers=headers, message_id=message_id)
        return not duplicate

    async def pending(self, key: str) -> bool:
        """Whether a job with this key waits or runs: it leaves the queue when it is done, never before."""
        await self._open()
        return await self._bus.last(self._stream, self._subject(key)) is not None

    async def depth(self) -> int:
        """Jobs that wait or are being worked on."""
        await self._open()
        return sum((await self._bus.counts(self._stream, f"{self._prefix}.{token(self.name)}.>")).values())

    async def work(self, handler: Handler, concurrency: int, stop: asyncio.Event) -> None:
        """Take jobs and run them, `concurrency` at once, until `stop` is set; then wait for those that run.

        Goes on through an absence of NATS. Cancelled, it cancels the handlers; their jobs are another's soon.
        """
        worker = _Worker(self, handler, concurrency)
        stopped = asyncio.create_task(stop.wait())
        try:
            async with asyncio.TaskGroup() as tasks:
                beat = tasks.create_task(worker.keep_alive(self._ack_wait_s / 3), name=f"jobs.{self.name}.alive")
                await self._take_until(stopped, worker, tasks)
                await worker.idle()
                beat.cancel()
        finally:
            stopped.cancel()

    async def _take_until(self, stopped: "asyncio.Task[bool]", worker: "_Worker", tasks: asyncio.TaskGroup) -> None:
        delay_s = _AWAY_S[0]
        while not stopped.done():
            try:
                await self._take_while_connected(stopped, worker, tasks)
                delay_s = _AWAY_S[0]
            except PlatformError as error:
                log.warning("jobs.away", queue=self.name, why=error.message, retry_s=delay_s)
                await asyncio.wait({stopped}, timeout=delay_s)
                delay_s = min(delay_s * 2, _AWAY_S[1])

    async def _take_while_connected(
        self, stopped: "asyncio.Task[bool]", worker: "_Worker", tasks: asyncio.TaskGroup
    ) -> None:
        """Take jobs until stopped, or until the connection was made anew: a request that was waiting then is lost."""
        reconnected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        forget = self._bus.on_reconnect(reconnected.cancel)
        try:
            consumer = await self._consumer()
            try:
                ends: Ends = {stopped, reconnected}
                while not any(end.done() for end in ends):
                    await self._take(consumer, ends, worker, tasks)
            finally:
                await consumer.close()
        finally:
            forget()

    async def _take(self, consumer: Consumer, ends: Ends, worker: "_Worker", tasks: asyncio.TaskGroup) -> None:
        slot = asyncio.create_task(worker.slots.acquire())
        await asyncio.wait({slot, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if not slot.done():
            slot.cancel()
            return
        taken = False
        fetch = asyncio.create_task(consumer.next(_FETCH_S))
        try:
            await asyncio.wait({fetch, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if fetch.done():
                delivery = fetch.result()
                if delivery is not None:
                    tasks.create_task(worker.run(delivery), name=f"jobs.{self.name}")
                    taken = True
        finally:
            fetch.cancel()
            if not taken:
                worker.slots.release()

    async def execute(self, delivery: Delivery, handler: Handler) -> None:
        """One delivery, from the hand-out to its end."""
        job = Job.of(delivery, self.name)
        if job.deliveries > self._max_deliver:
            # Nobody lived to say why: the job takes its workers with it.
            await bury(self._bus, delivery, self._stream, "worker_died")
            return
        with ExitStack() as bound:
            bound.enter_context(continued(wire.trace_of(delivery.headers)))
            if job.principal is not None:
                bound.enter_context(acting_as(job.principal))
            try:
                await handler(job)
            except Abandon:
                log.info("jobs.abandoned", queue=self.name, key=job.key)
            except Retry as again:
                await delivery.retry(again.delay_s)
            except Exception as error:
                await self._failed(delivery, job, error)
            else:
                await delivery.ack()

    async def _failed(self, delivery: Delivery, job: Job, error: Exception) -> None:
        reason = error.reason.name if isinstance(error, PlatformError) else type(error).__name__
        known = isinstance(error, PlatformError)
        log.warning(
            "jobs.failed", queue=self.name, kind=job.kind, key=job.key, deliveries=job.deliveries, reason=reason,
            exc_info=not known,
        )  # fmt: skip
        if job.deliveries >= self._max_deliver:
            await bury(self._bus, delivery, self._stream, reason)
            return
        low, high = self._backoff_s
        await delivery.retry(min(high, low * 2 ** (job.deliveries - 1)))

    async def _open(self) -> None:
        if not self._ready:
            await self._bus.ensure_stream(StreamSpec(self._stream, [f"{self._prefix}.>"], work_queue=True))
            self._ready = True

    async def _consumer(self) -> Consumer:
        await self._open()
        subject = f"{self._prefix}.{token(self.name)}.>"
        return await self._bus.consumer(self._stream, f"jobs_{token(self.name)}", subject, ack_wait_s=self._ack_wait_s)

    def _subject(self, key: str) -> str:
        return f"{self._prefix}.{token(self.name)}.{token(key)}"


class _Worker:
    """The jobs that run in this process for one queue."""

    def __init__(self, queue: JobQueue, handler: Handler, concurrency: int) -> None:
        self._queue = queue
        self._handler = handler
        self._running: set[Delivery] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.slots = asyncio.Semaphore(concurrency)

    async def run(self, delivery: Delivery) -> None:
        """Execute one delivery; whatever goes wrong with NATS, the job is handed out again by itself."""
        self._running.add(delivery)
        self._idle.clear()
        try:
            await self._queue.execute(delivery, self._handler)
        except PlatformError as error:
            log.warning("jobs.not_acknowledged", queue=self._queue.name, why=error.message)
        finally:
            self._running.discard(delivery)
            self.slots.release()
            if not self._running:
                self._idle.set()

    async def idle(self) -> None:
        """Wait until no job runs."""
        await asyncio.sleep(0)  # a task that was just made marks itself first
        await self._idle.wait()

    async def keep_alive(self, every_s: float) -> None:
        """Tell the server, for all running jobs, that they are being worked on."""
        while True:
            await asyncio.sleep(every_s)
            for delivery in list(self._running):
                try:
                    await delivery.extend()
                except PlatformError as error:
                    log.warning("jobs.sign_of_life_lost", queue=self._queue.name, why=error.message)
                    break
