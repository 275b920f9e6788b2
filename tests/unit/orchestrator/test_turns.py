"""One active run a thread: supersede, yield, queue; and what becomes of runs that nobody reads."""

from __future__ import annotations

import asyncio

import pytest

from fastchat.common.v1.event_pb2 import RunOutcome
from fastchat.orchestrator.v1.run_service_pb2 import OnDisconnect
from kit.errors import PlatformError, Reason
from tests.unit.orchestrator.fake_models import ANSWER
from tests.unit.orchestrator.samples import start_request
from tests.unit.orchestrator.world import World, collect, text_of

pytestmark = pytest.mark.req("FR-020")


async def test_a_new_turn_supersedes_a_run_that_nobody_reads(world: World) -> None:
    world.script.hold_after, world.script.held_calls = 5, 1
    replica = await world.replica()
    older = start_request(durable=True, thread_id="th")
    await replica.begin(older)
    await world.script.held.wait()
    newer = await collect(replica.start(start_request(durable=True, thread_id="th")))
    assert text_of(newer) == ANSWER
    events = await collect(replica.attach(older.run_id))
    assert events[-1].complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED


async def test_a_new_turn_yields_to_a_run_that_somebody_reads_on_any_replica(world: World) -> None:
    world.script.hold_after, world.script.held_calls = 5, 1
    first, second = await world.replica(), await world.replica(working=False)
    older = start_request(durable=True, thread_id="th")
    reading = asyncio.ensure_future(collect(first.start(older)))
    await world.script.held.wait()
    with pytest.raises(PlatformError) as caught:
        await collect(second.start(start_request(durable=True, thread_id="th")))
    assert (caught.value.reason, caught.value.metadata["run_id"]) == (Reason.THREAD_BUSY, older.run_id)
    world.script.release.set()
    assert text_of(await reading) == ANSWER
    assert text_of(await collect(second.start(start_request(durable=True, thread_id="th")))) == ANSWER


async def test_a_new_turn_waits_where_settings_say_so(world: World) -> None:
    world.layer = {"preferences": {"thread_busy": "queue"}}
    world.script.hold_after, world.script.held_calls = 5, 1
    replica = await world.replica()
    older = start_request(durable=True, thread_id="th")
    reading = asyncio.ensure_future(collect(replica.start(older)))
    await world.script.held.wait()
    waiting = asyncio.ensure_future(collect(replica.start(start_request(durable=True, thread_id="th"))))
    await asyncio.wait({waiting}, timeout=0.5)
    assert not waiting.done()
    world.script.release.set()
    assert text_of(await reading) == ANSWER
    assert text_of(await waiting) == ANSWER


async def test_the_next_turn_may_begin_the_moment_the_last_event_is_read(world: World) -> None:
    replica, other = await world.replica(), await world.replica()
    for number in range(10):
        request = start_request(durable=True, thread_id="th")
        assert text_of(await collect((replica, other)[number % 2].start(request))) == ANSWER


async def test_threads_of_two_tenants_do_not_meet(world: World) -> None:
    world.script.hold_after, world.script.held_calls = 5, 1
    replica = await world.replica()
    reading = asyncio.ensure_future(collect(replica.start(start_request(durable=True, thread_id="th"))))
    await world.script.held.wait()
    theirs = await collect(replica.start(start_request(durable=True, thread_id="th", tenant_id="t2")))
    assert text_of(theirs) == ANSWER
    world.script.release.set()
    await reading


@pytest.mark.parametrize("by", ["request", "settings"])
async def test_a_run_that_nobody_reads_is_cancelled_after_the_grace_if_told_so(world: World, by: str) -> None:
    world.layer = {"runs": {"disconnect_grace_s": 0.3}}
    asked = OnDisconnect.ON_DISCONNECT_CANCEL_AFTER
    if by == "settings":
        world.layer["preferences"] = {"on_disconnect": "cancel_after"}
        asked = OnDisconnect.ON_DISCONNECT_UNSPECIFIED
    world.script.hold_after = 5
    replica = await world.replica()
    request = start_request(durable=True, on_disconnect=asked)
    await replica.begin(request)
    async with asyncio.timeout(5):
        await world.script.cancelled.wait()
    events = await collect(replica.attach(request.run_id))
    assert events[-1].complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED


async def test_a_reader_on_another_replica_keeps_a_run_alive(world: World) -> None:
    world.layer = {"runs": {"disconnect_grace_s": 0.3}}
    world.script.hold_after = 5
    first, second = await world.replica(), await world.replica(working=False)
    request = start_request(durable=True, on_disconnect=OnDisconnect.ON_DISCONNECT_CANCEL_AFTER)
    reading = asyncio.ensure_future(collect(second.start(request)))
    await world.script.held.wait()
    await asyncio.wait({reading}, timeout=1.5)
    assert not world.script.cancelled.is_set()
    world.script.release.set()
    assert text_of(await reading) == ANSWER
    assert first.service.name == "orchestrator"
