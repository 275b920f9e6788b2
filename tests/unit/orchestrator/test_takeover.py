"""A run outlives its replica: taken over, continued, and closed to the one that lost it."""

from __future__ import annotations

import asyncio

import pytest

from fastchat.common.v1.event_pb2 import RunOutcome
from fastchat.integration.v1.model_service_pb2 import ModelOptions
from fastchat.orchestrator.v1.run_service_pb2 import RunStatus
from kit.bus import Delivery
from kit.errors import PlatformError, Reason
from kit.eventlog import EventLog, LogKey
from tests.unit.orchestrator.fake_models import ANSWER, WORDS
from tests.unit.orchestrator.samples import call, start_request
from tests.unit.orchestrator.world import FAST, Replica, World, collect, ended, sequences, text_of, until

pytestmark = [pytest.mark.req("PR-024"), pytest.mark.req("PR-034")]


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Clients whose signs of life do not arrive: to the server, their process stands still."""
    muted: set[int] = set()
    extend = Delivery.extend

    async def maybe(delivery: Delivery) -> None:
        if id(delivery._message._client) not in muted:
            await extend(delivery)

    monkeypatch.setattr(Delivery, "extend", maybe)
    return muted


def stand_still(replica: Replica, muted: set[int]) -> None:
    """No sign of life, and no further job: but what it executes goes on when the test lets it."""
    muted.add(id(replica.bus._client))
    assert replica.service.drain is not None
    replica.standing = asyncio.ensure_future(replica.service.drain(60))


async def test_another_replica_goes_on_and_the_reader_sees_one_answer(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica()
    reader = await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(reader.start(request)))
    await world.script.held.wait()
    stand_still(first, mute)
    await world.replica()
    events = await reading
    assert sequences(events) == list(range(1, len(events) + 1))
    assert text_of(events) == ANSWER
    assert world.script.calls[1].continue_from == "".join(WORDS[:12])
    legs = events[-2].usage.legs
    assert [leg.outcome for leg in legs] == ["interrupted", "stop"]
    assert legs[0].usage.completion_tokens == 12
    assert (await ended(reader, request.run_id)).status == RunStatus.RUN_STATUS_COMPLETED


async def test_a_zombie_is_fenced_and_none_of_its_tokens_is_seen(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    zombie = await world.replica()
    request = start_request(durable=True)
    # This reader is the zombie's own: it is served from its memory.
    reading = asyncio.ensure_future(collect(zombie.start(request)))
    await world.script.held.wait()
    stand_still(zombie, mute)
    other = await world.replica()
    await until(lambda: len(world.script.calls) == 2)
    world.script.words = ["WRONG "] * 30
    world.script.release.set()
    events = await reading
    assert text_of(events) == ANSWER
    run = await ended(other, request.run_id)
    assert run.status == RunStatus.RUN_STATUS_COMPLETED
    assert await collect(other.attach(request.run_id)) == events


async def test_a_silent_zombie_lets_go_without_touching_sql(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    zombie = await world.replica()
    request = start_request(durable=True)
    await zombie.begin(request)
    await world.script.held.wait()
    stand_still(zombie, mute)
    other = await world.replica()
    events = await collect(other.attach(request.run_id))
    before = await ended(other, request.run_id)
    world.script.release.set()
    await until(lambda: not zombie.executor.busy)
    assert await other.get(request.run_id) == before
    assert text_of(events) == ANSWER


async def test_two_choices_are_continued_by_repetition(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica()
    reader = await world.replica(working=False)
    request = start_request(durable=True, call=call(options=ModelOptions(n=2)))
    reading = asyncio.ensure_future(collect(reader.start(request)))
    await world.script.held.wait()
    stand_still(first, mute)
    await world.replica()
    events = await reading
    deltas = [delta for event in events for delta in event.token.deltas]
    assert ["".join(one.text for one in deltas if one.choice_index == index) for index in (0, 1)] == [ANSWER, ANSWER]
    assert not world.script.calls[1].continue_from


async def test_an_answer_that_cannot_be_continued_faithfully_ends_interrupted(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica()
    reader = await world.replica(working=False)
    request = start_request(durable=True, call=call(response_format_json='{"type": "json_object"}'))
    reading = asyncio.ensure_future(collect(reader.start(request)))
    await world.script.held.wait()
    world.script.words = ["other "] * 30
    stand_still(first, mute)
    await world.replica()
    events = await reading
    assert PlatformError.from_event(events[-1].error).reason is Reason.UPSTREAM_INTERRUPTED
    assert text_of(events) == "".join(WORDS[:12])
    assert (await ended(reader, request.run_id)).status == RunStatus.RUN_STATUS_FAILED


async def test_a_drained_replica_hands_its_runs_over(world: World) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica()
    reader = await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(reader.start(request)))
    await world.script.held.wait()
    await world.replica()
    await first.drain(0.1)
    assert text_of(await reading) == ANSWER
    assert world.script.calls[1].continue_from == "".join(WORDS[:12])


async def test_a_replica_finishes_what_ends_within_the_drain_time(world: World) -> None:
    world.script.hold_after = 12
    first = await world.replica()
    reader = await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(reader.start(request)))
    await world.script.held.wait()
    draining = asyncio.ensure_future(first.drain(5))
    world.script.release.set()
    await draining
    assert text_of(await reading) == ANSWER
    assert len(world.script.calls) == 1


async def test_a_single_replica_that_restarts_resumes_its_runs(world: World) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica()
    request = start_request(durable=True)
    await first.begin(request)
    await world.script.held.wait()
    await first.drain(0)
    again = await world.replica()
    assert text_of(await collect(again.attach(request.run_id))) == ANSWER


async def test_a_cancellation_outlives_the_owner(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica(FAST.model_copy(update={"watch_interval_s": 3600}))
    other = await world.replica(working=False)
    request = start_request(durable=True)
    await first.begin(request)
    await world.script.held.wait()
    stand_still(first, mute)
    first.executor.cancel = lambda key: False  # type: ignore[method-assign]
    await other.cancel(request.run_id)
    await world.replica()
    events = await collect(other.attach(request.run_id))
    assert events[-1].complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED
    assert text_of(events) == "".join(WORDS[:12])


async def test_a_run_that_kills_its_replicas_ends_interrupted(world: World, mute: set[int]) -> None:
    world.script.hold_after = 3
    config = FAST.model_copy(update={"max_deliveries": 2})
    replicas = [await world.replica(config)]
    request = start_request(durable=True)
    await replicas[0].begin(request)
    for deliveries in (1, 2):
        await until(lambda calls=deliveries: len(world.script.calls) >= calls)  # type: ignore[misc]
        stand_still(replicas[-1], mute)
        replicas.append(await world.replica(config))
    events = await collect(replicas[-1].attach(request.run_id))
    error = PlatformError.from_event(events[-1].error)
    assert (error.reason, error.metadata["run_id"]) == (Reason.RUN_INTERRUPTED, request.run_id)
    assert (await ended(replicas[-1], request.run_id)).status == RunStatus.RUN_STATUS_FAILED


async def test_a_run_whose_log_was_lost_ends_interrupted(world: World, mute: set[int]) -> None:
    world.script.hold_after, world.script.held_calls = 12, 1
    first = await world.replica()
    request = start_request(durable=True)
    await first.begin(request)
    await world.script.held.wait()

    async def noted() -> bool:
        row = await first.store.get("t1", request.run_id)
        return row is not None and row.logged_sequence >= 2

    await until(noted)
    stand_still(first, mute)
    log = await EventLog(first.bus, world.keyring).open()
    await log.purge(LogKey("t1", request.run_id))
    other = await world.replica()
    events = await collect(other.attach(request.run_id))
    assert [event.WhichOneof("payload") for event in events] == ["started", "usage", "error"]
    assert PlatformError.from_event(events[-1].error).reason is Reason.RUN_INTERRUPTED
    with pytest.raises(PlatformError) as caught:
        await collect(other.attach(request.run_id, 8))
    assert caught.value.reason is Reason.CURSOR_AHEAD


async def test_a_run_whose_job_was_lost_gets_another(world: World) -> None:
    idle = await world.replica(working=False)
    request = start_request(durable=True)
    reading = asyncio.ensure_future(collect(idle.start(request)))
    await until(lambda: idle.jobs.pending(f"t1/{request.run_id}"))
    await idle.bus.purge("FC_JOBS", "fc.job.runs.>")
    await until(idle.sweeper.revive)
    await world.replica()
    assert text_of(await reading) == ANSWER
