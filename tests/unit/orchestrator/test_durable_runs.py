"""Durable runs: logged before they are delivered, read from any replica, from every cursor."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from fastchat.common.v1.event_pb2 import RunOutcome
from fastchat.orchestrator.v1.run_service_pb2 import RunStatus
from kit.errors import PlatformError, Reason
from kit.ids import new_uuid
from kit.jobs import Job, JobQueue
from tests.unit.orchestrator.fake_models import ANSWER, WORDS
from tests.unit.orchestrator.samples import start_request
from tests.unit.orchestrator.world import Replica, World, collect, ended, queued, sequences, text_of, until

pytestmark = pytest.mark.req("FR-018")


async def refused(awaitable: object) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value


async def test_a_durable_run_is_logged_told_and_ended_in_sql(world: World) -> None:
    replica = await world.replica()
    request = start_request(durable=True)
    events = await collect(replica.start(request))
    assert sequences(events) == list(range(1, len(events) + 1))
    assert text_of(events) == ANSWER
    run = await ended(replica, request.run_id)
    assert run.status == RunStatus.RUN_STATUS_COMPLETED
    assert run.last_sequence == len(events)
    assert run.usage.completion_tokens == len(WORDS)
    assert (run.graph, run.model_alias, run.public_id) == ("chat@1", "m", "chatcmpl-1")


@pytest.mark.req("FR-007")
async def test_any_replica_goes_on_from_every_cursor(world: World) -> None:
    first, second = await world.replica(), await world.replica(working=False)
    request = start_request(durable=True)
    events = await collect(first.start(request))
    for replica in (first, second):
        for cursor in range(len(events)):
            assert await collect(replica.attach(request.run_id, cursor)) == events[cursor:]
        assert await collect(replica.attach(request.run_id, len(events))) == []


async def test_readers_of_all_replicas_see_the_same_while_it_runs(world: World) -> None:
    world.script.hold_after = 5
    first, second = await world.replica(), await world.replica(working=False)
    request = start_request(durable=True)
    readers = [asyncio.ensure_future(collect(first.start(request)))]
    await world.script.held.wait()
    readers += [asyncio.ensure_future(collect(one.attach(request.run_id))) for one in (first, second, second)]
    await until_readers(first, request.run_id, 4)
    world.script.release.set()
    seen = await asyncio.gather(*readers)
    assert text_of(seen[0]) == ANSWER
    assert all(one == seen[0] for one in seen)


async def until_readers(replica: Replica, run_id: str, count: int) -> None:
    async def that_many() -> bool:
        return (await replica.get(run_id)).readers == count

    await until(that_many)


async def test_a_reader_on_a_replica_that_does_not_execute_gets_what_comes_live(world: World) -> None:
    world.script.hold_after = 5
    first, second = await world.replica(working=False), await world.replica()
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(first.start(request)))
    await world.script.held.wait()
    world.script.release.set()
    assert text_of(await reading) == ANSWER
    assert second.service.name == "orchestrator"


async def test_a_run_goes_on_when_its_reader_leaves(world: World) -> None:
    world.script.hold_after = 5
    replica = await world.replica()
    request = start_request(durable=True)
    await replica.begin(request)
    await world.script.held.wait()
    world.script.release.set()
    assert text_of(await collect(replica.attach(request.run_id))) == ANSWER
    assert not world.script.cancelled.is_set()


async def test_a_repeated_start_attaches_to_the_run_that_it_began(world: World) -> None:
    first, second = await world.replica(), await world.replica()
    request = start_request(durable=True, thread_id="th1")
    begun = await collect(first.start(request))
    assert await collect(second.start(request)) == begun
    assert len(world.script.calls) == 1


@pytest.mark.req("PR-030")
async def test_a_run_of_another_tenant_is_like_an_absent_one(world: World) -> None:
    replica = await world.replica()
    request = start_request(durable=True)
    await collect(replica.start(request))
    absent = new_uuid()
    for ask in (
        lambda run_id: replica.get(run_id, tenant_id="t2"),
        lambda run_id: replica.cancel(run_id, tenant_id="t2"),
        lambda run_id: collect(replica.attach(run_id, tenant_id="t2")),
    ):
        theirs, nobodys = await refused(ask(request.run_id)), await refused(ask(absent))
        assert theirs.reason is nobodys.reason is Reason.RUN_NOT_FOUND
        assert theirs.message.replace(request.run_id, "") == nobodys.message.replace(absent, "")
    assert not (await replica.list(tenant_id="t2")).runs


@pytest.mark.req("PR-030")
async def test_two_tenants_may_use_the_same_run_id(world: World) -> None:
    replica = await world.replica()
    request = start_request(durable=True)
    mine = await collect(replica.start(request))
    theirs = await collect(replica.start(start_request(durable=True, tenant_id="t2", run_id=request.run_id)))
    assert text_of(theirs) == text_of(mine) == ANSWER
    assert {event.event_id for event in mine}.isdisjoint(event.event_id for event in theirs)


async def test_a_cursor_past_the_head_is_refused(world: World) -> None:
    world.script.hold_after = 5
    replica, other = await world.replica(), await world.replica(working=False)
    request = start_request(durable=True)
    await replica.begin(request)
    await world.script.held.wait()
    for one in (replica, other):
        error = await refused(collect(one.attach(request.run_id, 500)))
        assert error.reason is Reason.CURSOR_AHEAD
    world.script.release.set()
    events = await collect(replica.attach(request.run_id))
    await ended(replica, request.run_id)
    error = await refused(collect(other.attach(request.run_id, len(events) + 1)))
    assert (error.reason, error.metadata["last"]) == (Reason.CURSOR_AHEAD, str(len(events)))


@pytest.mark.req("FR-020")
async def test_a_run_is_cancelled_from_a_replica_that_does_not_execute_it(world: World) -> None:
    world.script.hold_after = 5
    first, second = await world.replica(), await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(first.start(request)))
    await world.script.held.wait()
    assert (await second.cancel(request.run_id)).run_id == request.run_id
    async with asyncio.timeout(1):
        await world.script.cancelled.wait()
    events = await reading
    assert events[-1].complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED
    assert events[-2].usage.is_final
    assert text_of(events) == "".join(WORDS[:5])
    assert (await ended(first, request.run_id)).status == RunStatus.RUN_STATUS_CANCELLED
    error = await refused(second.cancel(request.run_id))
    assert (error.reason, error.metadata["status"]) == (Reason.NOT_CANCELLABLE, "cancelled")


async def test_a_cancellation_that_nobody_was_told_of_is_found_on_the_heartbeat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script.hold_after = 5
    first, second = await world.replica(), await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(first.start(request)))
    await world.script.held.wait()

    async def lost(*_: object) -> None:
        pass

    monkeypatch.setattr(second.bus, "publish", lost)
    await second.cancel(request.run_id)
    assert (await reading)[-1].complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED


async def test_a_run_cancelled_while_it_waits_for_a_replica_never_calls_the_model(world: World) -> None:
    idle = await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(idle.start(request)))
    await queued(idle)
    await idle.cancel(request.run_id)
    await world.replica()
    events = await reading
    assert [event.WhichOneof("payload") for event in events] == ["started", "usage", "complete"]
    assert not world.script.calls


async def test_an_ended_run_of_a_thread_asks_for_its_answer_to_be_stored(world: World) -> None:
    replica = await world.replica()
    request = start_request(durable=True, thread_id="th1")
    await collect(replica.start(request))
    jobs: list[Job] = []
    stop = asyncio.Event()

    async def take(job: Job) -> None:
        jobs.append(job)

    queue = JobQueue(await world.bus(), "history")
    working = asyncio.ensure_future(queue.work(take, 1, stop))
    await until(lambda: jobs)
    stop.set()
    await working
    assert orjson.loads(jobs[0].payload) == {"tenant_id": "t1", "run_id": request.run_id, "thread_id": "th1"}
    assert jobs[0].tenant_id == "t1"


async def test_runs_are_listed_newest_first_by_pages(world: World) -> None:
    replica = await world.replica()
    ids = []
    for thread in ("a", "b", "a"):
        request = start_request(durable=True, thread_id=thread)
        await collect(replica.start(request))
        ids.append(request.run_id)
    page = await replica.list(page_size=2)
    assert [run.run_id for run in page.runs] == ids[:0:-1]
    rest = await replica.list(page_size=2, page_token=page.next_page_token)
    assert [run.run_id for run in rest.runs] == ids[:1]
    assert not rest.next_page_token
    assert [run.run_id for run in (await replica.list(thread_id="a")).runs] == [ids[2], ids[0]]
    assert (await refused(replica.list(page_token="x"))).reason is Reason.INVALID_ARGUMENT


async def test_a_timeout_ends_a_run_with_what_it_had(world: World) -> None:
    world.script.hold_after = 5
    replica = await world.replica()
    events = await collect(replica.start(start_request(durable=True, timeout_ms=1500)))
    assert events[-1].complete.outcome == RunOutcome.RUN_OUTCOME_INCOMPLETE
    assert text_of(events) == "".join(WORDS[:5])
    assert (await ended(replica, events[0].run_id)).status == RunStatus.RUN_STATUS_INCOMPLETE


async def test_an_ended_runs_log_goes_after_its_window_and_its_history(world: World) -> None:
    world.layer = {"runs": {"replay_window_s": 0}}
    replica = await world.replica()
    kept = start_request(durable=True, thread_id="th1")
    gone = start_request(durable=True)
    for request in (kept, gone):
        await collect(replica.start(request))
        await ended(replica, request.run_id)
    sweeper = replica.sweeper
    assert await sweeper.purge() == 1
    assert await sweeper.purge() == 0
    assert (await refused(collect(replica.attach(gone.run_id)))).reason is Reason.CURSOR_EXPIRED
    assert text_of(await collect(replica.attach(kept.run_id))) == ANSWER, "its history job still needs the log"
    assert (await replica.get(gone.run_id)).status == RunStatus.RUN_STATUS_COMPLETED
