"""The fast path over gRPC: straight to the caller, and only as long as it listens."""

from __future__ import annotations

import asyncio
import time

import pytest

from fastchat.common.v1.event_pb2 import RunOutcome
from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason
from kit.principal import acting_as
from tests.unit.orchestrator.fake_models import ANSWER, WORDS
from tests.unit.orchestrator.samples import start_request, started
from tests.unit.orchestrator.world import World, collect, member, sequences, text_of, until


@pytest.mark.req("FR-007")
async def test_a_plain_completion_streams_from_started_to_complete(world: World) -> None:
    replica = await world.replica()
    request = start_request()
    events = await collect(replica.start(request))
    assert sequences(events) == list(range(1, len(events) + 1))
    assert events[0].started.graph == "chat@1"
    assert events[0].started.context_window == 8192
    assert text_of(events) == ANSWER
    assert events[-2].usage.is_final
    assert events[-2].usage.usage.completion_tokens == len(WORDS)
    assert events[-1].complete.outcome == RunOutcome.RUN_OUTCOME_COMPLETED
    assert {event.run_id for event in events} == {request.run_id}
    assert all(event.trace_id == events[0].trace_id for event in events)


async def test_an_answer_in_one_piece_takes_four_events(world: World) -> None:
    replica = await world.replica()
    whole = started(projection_json='{"stream": false}')
    events = await collect(replica.start(start_request(started=whole)))
    assert [event.WhichOneof("payload") for event in events] == ["started", "token", "usage", "complete"]
    assert text_of(events) == ANSWER


async def test_a_model_error_comes_as_the_last_event(world: World) -> None:
    replica = await world.replica()
    world.script.failure = PlatformError(Reason.MODEL_NOT_FOUND, "No such model.", model="m")
    events = await collect(replica.start(start_request()))
    assert [event.WhichOneof("payload") for event in events] == ["started", "usage", "error"]
    assert PlatformError.from_event(events[-1].error).reason is Reason.MODEL_NOT_FOUND


@pytest.mark.req("FR-020")
async def test_a_caller_that_leaves_cancels_the_models_call_within_200_ms(world: World) -> None:
    replica = await world.replica()
    world.script.hold_after = 3
    with acting_as(member()):
        call = replica.stub.StartRun(start_request())
    received = asyncio.ensure_future(collect_until_held(call))
    await world.script.held.wait()
    began = time.perf_counter()
    call.cancel()
    async with asyncio.timeout(2):
        await world.script.cancelled.wait()
    assert time.perf_counter() - began < 0.2
    received.cancel()


async def collect_until_held(call: object) -> None:
    async for _ in call:  # type: ignore[attr-defined]
        pass


@pytest.mark.req("FR-020")
async def test_a_callers_deadline_cancels_the_models_call(world: World) -> None:
    replica = await world.replica()
    world.script.hold_after = 3
    with acting_as(member()):
        call = replica.stub.StartRun(start_request(), timeout=0.3)
    received = asyncio.ensure_future(collect_until_held(call))
    async with asyncio.timeout(3):
        await world.script.cancelled.wait()
    with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
        await received


async def test_a_plain_completion_goes_on_when_the_gateway_is_exchanged(world: World) -> None:
    replica = await world.replica()
    world.script.break_after = [4]
    events = await collect(replica.start(start_request()))
    assert text_of(events) == ANSWER
    assert [leg.outcome for leg in events[-2].usage.legs] == ["interrupted", "stop"]


async def test_a_plain_completion_is_no_durable_run(world: World) -> None:
    replica = await world.replica()
    request = start_request()
    await collect(replica.start(request))
    with pytest.raises(PlatformError) as caught:
        await replica.get(request.run_id)
    assert caught.value.reason is Reason.RUN_NOT_FOUND


@pytest.mark.req("PR-027")
async def test_a_viewer_may_not_start_a_run(world: World) -> None:
    replica = await world.replica()
    with pytest.raises(PlatformError) as caught:
        await collect(replica.start(start_request(), member(roles=("viewer",))))
    assert caught.value.reason is Reason.POLICY_DENIED
    assert not world.script.calls


@pytest.mark.req("PR-030")
async def test_a_start_for_another_tenant_is_refused(world: World) -> None:
    replica = await world.replica()
    stranger = Principal(tenant_id="t2", subject="user:u2", roles=["member"], scopes=["chat"])
    with pytest.raises(PlatformError) as caught:
        await collect(replica.start(start_request(), stranger))
    assert caught.value.reason is Reason.POLICY_DENIED


async def test_without_the_bus_plain_completions_go_on_and_durable_runs_are_refused(
    world: World, own_nats: object
) -> None:
    replica = await world.replica()
    own_nats.stop()  # type: ignore[attr-defined]
    await until(lambda: not replica.bus.connected)
    assert text_of(await collect(replica.start(start_request()))) == ANSWER
    with pytest.raises(PlatformError) as caught:
        await collect(replica.start(start_request(durable=True)))
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    await until(lambda: any(not state.ok and state.name == "bus" for state in replica.service.health.snapshot()))
    (bus,) = (state for state in replica.service.health.snapshot() if state.name == "bus")
    assert "plain completions go on" in bus.impact
