"""Work queues, dead letters and the outbox, on a real NATS server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from fastchat.common.v1.principal_pb2 import Principal
from kit.bus import Bus, BusConfig
from kit.db import Database
from kit.errors import PlatformError, Reason
from kit.jobs import DeadLetter, DeadLetters, Job, JobQueue, Retry
from kit.outbox import Relay, add
from kit.principal import acting_as, current, current_or_none
from kit.telemetry import current_trace_id
from tests.support.nats import nats_server
from tests.unit.kit_data.waiting import until

pytestmark = pytest.mark.req("PR-034")

Handler = Callable[[Job], Awaitable[None]]
FAST = (0.01, 0.02)
SOMEBODY = Principal(tenant_id="t", subject="user:1", roles=["member"], scopes=["chat"], expires_at=1)


@pytest.fixture
def queue(bus: Bus, unique: Callable[[str], str]) -> JobQueue:
    """A queue of its own; a job dies at the third failure."""
    return JobQueue(bus, unique("queue"), ack_wait_s=1.0, max_deliver=3, backoff_s=FAST)


@asynccontextmanager
async def working(queue: JobQueue, handler: Handler, concurrency: int = 4) -> AsyncIterator[None]:
    """Workers for a block; stopped, and waited for, at its end."""
    stop = asyncio.Event()
    worker = asyncio.create_task(queue.work(handler, concurrency, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await worker


class Seen:
    """A handler that notes jobs, and fails those whose kind is told."""

    def __init__(self, fails: str = "", error: Exception | None = None) -> None:
        self.jobs: list[Job] = []
        self._fails = fails
        self._error = error or ValueError("no")

    async def __call__(self, job: Job) -> None:
        self.jobs.append(job)
        if job.kind == self._fails:
            raise self._error

    def of(self, kind: str) -> list[Job]:
        return [job for job in self.jobs if job.kind == kind]


async def buried(bus: Bus, queue: JobQueue, enough: int) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    async with asyncio.timeout(20):
        while len(found) < enough:
            found = (await DeadLetters(bus).list(queue.name)).letters
    return found


async def dead(bus: Bus, queue: JobQueue) -> DeadLetter:
    return (await buried(bus, queue, 1))[0]


async def test_a_job_is_done_once_and_then_gone(queue: JobQueue) -> None:
    assert await queue.enqueue("start", b"payload", key="a/b c")
    assert await queue.pending("a/b c")
    seen = Seen()
    async with working(queue, seen):
        await until(lambda: bool(seen.jobs))
    assert [(job.kind, job.key, job.payload, job.deliveries) for job in seen.jobs] == [
        ("start", "a/b c", b"payload", 1)
    ]
    assert not await queue.pending("a/b c")
    assert await queue.depth() == 0


async def test_a_key_is_enqueued_once(queue: JobQueue) -> None:
    assert await queue.enqueue("start", b"", key="k")
    assert not await queue.enqueue("start", b"", key="k")
    assert await queue.depth() == 1


async def test_a_job_runs_as_its_principal_issued_anew_and_in_its_trace(queue: JobQueue) -> None:
    found: list[tuple[Principal, str]] = []

    async def handler(job: Job) -> None:
        found.append((current(), current_trace_id()))

    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("request") as span, acting_as(SOMEBODY):
        await queue.enqueue("start", b"", key="k", principal=current())
    async with working(queue, handler):
        await until(lambda: bool(found))
    principal, trace_id = found[0]
    assert (principal.tenant_id, principal.subject, list(principal.roles)) == ("t", "user:1", ["member"])
    assert principal.expires_at > time.time()
    assert trace_id == trace.format_trace_id(span.get_span_context().trace_id)
    assert current_or_none() is None


async def test_many_jobs_run_at_once_but_not_more_than_told(queue: JobQueue) -> None:
    running, most, done = 0, 0, 0

    async def handler(job: Job) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        done += 1

    for n in range(20):
        await queue.enqueue("n", b"", key=str(n))
    async with working(queue, handler, concurrency=5):
        await until(lambda: done == 20)
    assert 1 < most <= 5


async def test_a_failed_job_is_tried_again_and_then_a_dead_letter(bus: Bus, queue: JobQueue) -> None:
    await queue.enqueue("bad", b"payload", key="k", principal=SOMEBODY)
    seen = Seen(fails="bad")
    async with working(queue, seen):
        letter = await dead(bus, queue)
    assert [job.deliveries for job in seen.jobs] == [1, 2, 3]
    told = (letter.kind, letter.key, letter.tenant_id, letter.reason, letter.deliveries, letter.payload)
    assert told == ("bad", "k", "t", "ValueError", 3, b"payload")
    assert not await queue.pending("k")


async def test_a_dead_letter_tells_the_reason_of_the_catalogue(bus: Bus, queue: JobQueue) -> None:
    await queue.enqueue("bad", b"", key="k")
    async with working(queue, Seen("bad", PlatformError(Reason.MODEL_NOT_FOUND, "No such model."))):
        assert (await dead(bus, queue)).reason == "MODEL_NOT_FOUND"


async def test_a_dead_letter_is_redriven_once_as_who_it_was(bus: Bus, queue: JobQueue) -> None:
    await queue.enqueue("bad", b"payload", key="k", principal=SOMEBODY)
    async with working(queue, Seen(fails="bad")):
        letter = await dead(bus, queue)
    redriven = await DeadLetters(bus).redrive(letter.id)
    assert redriven == letter
    assert (await DeadLetters(bus).list(queue.name)).letters == []
    seen = Seen()
    async with working(queue, seen):
        await until(lambda: bool(seen.jobs))
    again = seen.jobs[0]
    assert (again.deliveries, again.payload, again.principal and again.principal.subject) == (1, b"payload", "user:1")


async def test_dead_letters_are_paged_by_queue_and_tenant(bus: Bus, queue: JobQueue) -> None:
    for n in range(5):
        await queue.enqueue("bad", b"", key=str(n), principal=Principal(tenant_id="even" if n % 2 == 0 else "odd"))
    letters = DeadLetters(bus)
    async with working(queue, Seen(fails="bad")):
        await buried(bus, queue, 5)
    first = await letters.list(queue.name, "even", page_size=2)
    second = await letters.list(queue.name, "even", page_size=2, page_token=first.next_page_token)
    assert (len(first.letters), len(second.letters), second.next_page_token) == (2, 1, "")
    assert {letter.tenant_id for letter in first.letters + second.letters} == {"even"}
    assert len((await letters.list(queue.name, "odd")).letters) == 2


@pytest.mark.req("PR-030")
async def test_another_tenants_dead_letter_is_as_absent_as_none(bus: Bus, queue: JobQueue) -> None:
    await queue.enqueue("bad", b"", key="k", principal=SOMEBODY)
    async with working(queue, Seen(fails="bad")):
        letter = await dead(bus, queue)
    letters = DeadLetters(bus)
    for letter_id in (letter.id, "job_aaaaaaaaaaaaa", "job_", "nonsense", "job_ä"):
        for attempt in (letters.redrive, letters.delete):
            with pytest.raises(PlatformError) as caught:
                await attempt(letter_id, tenant_id="other")
            assert (caught.value.reason, caught.value.metadata) == (
                Reason.NOT_FOUND,
                {"resource": "job", "id": letter_id},
            )
    await letters.delete(letter.id, tenant_id="t")
    assert (await letters.list(queue.name)).letters == []


async def test_a_handler_may_ask_for_another_time(queue: JobQueue) -> None:
    times: list[float] = []

    async def handler(job: Job) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Retry(0.2)

    await queue.enqueue("start", b"", key="k")
    async with working(queue, handler):
        await until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.2


async def test_a_long_job_is_kept_from_others_by_signs_of_life(queue: JobQueue) -> None:
    seen, release = Seen(), asyncio.Event()

    async def slow(job: Job) -> None:
        seen.jobs.append(job)
        await release.wait()

    await queue.enqueue("start", b"", key="k")
    async with working(queue, slow), working(queue, slow):
        await until(lambda: bool(seen.jobs))
        await asyncio.sleep(2.5)  # two and a half times ack_wait_s: what is shown is that nothing happens
        release.set()
    assert len(seen.jobs) == 1


async def test_a_dead_workers_job_is_anothers_soon(queue: JobQueue) -> None:
    held = asyncio.Event()

    async def hang(job: Job) -> None:
        held.set()
        await asyncio.Event().wait()

    await queue.enqueue("start", b"", key="k")
    first = asyncio.create_task(queue.work(hang, 1, asyncio.Event()))
    await held.wait()
    first.cancel()  # as a crash: nothing is said to the server
    await asyncio.wait({first})
    began, seen = time.monotonic(), Seen()
    async with working(queue, seen):
        await until(lambda: bool(seen.jobs))
    assert seen.jobs[0].deliveries == 2
    assert time.monotonic() - began < 2.0


async def test_a_job_that_kills_its_workers_is_buried_without_being_run_again(bus: Bus, queue: JobQueue) -> None:
    brief = JobQueue(bus, queue.name, ack_wait_s=0.2, max_deliver=1)
    await brief.enqueue("poison", b"", key="k")
    held = asyncio.Event()

    async def hang(job: Job) -> None:
        held.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(brief.work(hang, 1, asyncio.Event()))
    await held.wait()
    first.cancel()
    await asyncio.wait({first})
    seen = Seen()
    async with working(brief, seen):
        assert (await dead(bus, brief)).reason == "worker_died"
    assert seen.jobs == []


async def test_stopping_waits_for_what_runs_and_takes_nothing_new(queue: JobQueue) -> None:
    began, finished = asyncio.Event(), asyncio.Event()

    async def handler(job: Job) -> None:
        began.set()
        await asyncio.sleep(0.2)
        finished.set()

    await queue.enqueue("start", b"", key="1")
    async with working(queue, handler, concurrency=1):
        await began.wait()
        await queue.enqueue("start", b"", key="2")
    assert finished.is_set()
    assert await queue.pending("2")


async def test_workers_go_on_after_the_server_was_away(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        bus = await Bus.connect(BusConfig(url=server.url, request_timeout_s=0.5))
        queue = JobQueue(bus, "q", ack_wait_s=1.0)
        seen = Seen()
        async with working(queue, seen):
            await queue.enqueue("one", b"", key="1")
            await until(lambda: len(seen.jobs) == 1)
            server.kill()
            await until(lambda: not bus.connected)
            await asyncio.to_thread(server.start)
            await until(lambda: bus.connected)
            await queue.enqueue("two", b"", key="2")
            await until(lambda: bool(seen.of("two")))
        await bus.close()


@asynccontextmanager
async def relaying(database: Database, bus: Bus) -> AsyncIterator[Relay]:
    """A relay for a block."""
    relay, stop = Relay(database, bus), asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        await task


async def test_a_job_is_put_when_its_transaction_commits(database: Database, bus: Bus, queue: JobQueue) -> None:
    seen = Seen()
    async with working(queue, seen), relaying(database, bus):
        async with database.tenant("t") as session:
            await add(session, queue.name, "start", b"payload", "k", SOMEBODY)
            await asyncio.sleep(0.05)
            assert seen.jobs == []
        await until(lambda: bool(seen.jobs))
    job = seen.jobs[0]
    assert (job.kind, job.key, job.payload, job.tenant_id) == ("start", "k", b"payload", "t")
    assert job.principal is not None
    assert await Relay(database, bus).flush() == 0


async def test_a_job_is_not_put_when_its_transaction_fails(database: Database, bus: Bus, queue: JobQueue) -> None:
    async def fail() -> None:
        async with database.tenant("t") as session:
            await add(session, queue.name, "start", b"", "k", SOMEBODY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await Relay(database, bus).flush() == 0


async def test_the_outbox_waits_while_the_bus_is_away_and_keeps_order(sqlite: Database, tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as server:
        bus = await Bus.connect(BusConfig(url=server.url, request_timeout_s=0.2))
        server.kill()
        await until(lambda: not bus.connected)
        relay = Relay(sqlite, bus)
        for n in range(3):
            async with sqlite.tenant("t") as session:
                await add(session, "q", f"job{n}", b"", str(n), SOMEBODY)
        with pytest.raises(PlatformError) as caught:
            await relay.flush()
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        await asyncio.to_thread(server.start)
        await until(lambda: bus.connected)
        assert await relay.flush() == 3
        seen = Seen()
        async with working(JobQueue(bus, "q"), seen, concurrency=1):
            await until(lambda: len(seen.jobs) == 3)
        assert [job.kind for job in seen.jobs] == ["job0", "job1", "job2"]
        await bus.close()


async def test_a_relay_that_dies_after_putting_puts_no_second_job(sqlite: Database, bus: Bus, queue: JobQueue) -> None:
    async with sqlite.tenant("t") as session:
        await add(session, queue.name, "start", b"", "k", SOMEBODY)
    assert await queue.enqueue("start", b"", key="k", principal=SOMEBODY)  # it put, and died before it removed
    assert await Relay(sqlite, bus).flush() == 1
    assert await queue.depth() == 1


async def test_a_job_too_large_for_the_bus_holds_up_no_other(sqlite: Database, bus: Bus, queue: JobQueue) -> None:
    async with sqlite.tenant("t") as session:
        await add(session, queue.name, "huge", b"x" * (bus.max_payload + 1), "huge", SOMEBODY)
        await add(session, queue.name, "small", b"", "small", SOMEBODY)
    assert await Relay(sqlite, bus).flush() == 1
    assert await queue.pending("small")
