"""One execution of the graph `chat`: whatever happens, final usage once and then the end."""

from __future__ import annotations

import asyncio

import pytest

from fastchat.common.v1.event_pb2 import (
    CompletePayload,
    ErrorPayload,
    RunOutcome,
    StatusPayload,
    TokenPayload,
    UsagePayload,
)
from fastchat.integration.v1.model_service_pb2 import ModelOptions
from kit.errors import PlatformError, Reason
from orchestrator.events import Payload
from orchestrator.execution import Execution, Left, StopCause
from orchestrator.fold import Delivered
from orchestrator.graphs.builtin import chat
from orchestrator.nodes.port import RunContext
from tests.unit.orchestrator.fake_models import ANSWER, PROMPT_TOKENS, WORDS, FakeModels, Script
from tests.unit.orchestrator.samples import call, delta

GRAPH = chat.build()


class Bench:
    """An execution with its emitted payloads at hand."""

    def __init__(self, script: Script, *, timeout_s: float = 20.0, patience_s: float = 5.0, **more: object) -> None:
        self.payloads: list[Payload] = []
        options = more.pop("call", None) or call()
        resumable = bool(more.pop("resumable", True))
        self.context = RunContext(
            call=options,  # type: ignore[arg-type]
            models=FakeModels(script),
            emit=self.emit,
            deadline=asyncio.get_running_loop().time() + timeout_s,
            patience_s=patience_s,
            **more,  # type: ignore[arg-type]
        )
        self.execution = Execution(GRAPH, self.context, timeout_s, resumable=resumable)

    async def emit(self, payload: Payload) -> None:
        self.payloads.append(payload)

    @property
    def text(self) -> str:
        delivered = Delivered()
        for payload in self.payloads:
            if isinstance(payload, TokenPayload):
                delivered.add(payload.deltas)
        return delivered.all_text()

    @property
    def usage(self) -> UsagePayload:
        finals = [one for one in self.payloads if isinstance(one, UsagePayload) and one.is_final]
        assert len(finals) == 1
        assert self.payloads[-2] is finals[0]
        return finals[0]

    @property
    def complete(self) -> CompletePayload:
        assert isinstance(self.payloads[-1], CompletePayload)
        return self.payloads[-1]

    @property
    def error(self) -> PlatformError:
        assert isinstance(self.payloads[-1], ErrorPayload)
        return PlatformError.from_event(self.payloads[-1])


@pytest.mark.parametrize("resumable", [True, False])
async def test_an_answer_runs_to_its_end(resumable: bool) -> None:
    bench = Bench(Script(), context_window=100, resumable=resumable)
    await bench.execution.run()
    assert bench.text == ANSWER
    assert bench.usage.usage.completion_tokens == len(WORDS)
    assert (bench.usage.context_window, len(bench.usage.legs)) == (100, 1)
    assert bench.complete.outcome == RunOutcome.RUN_OUTCOME_COMPLETED
    assert list(bench.complete.finish_reasons) == ["stop"]


async def test_a_whole_answer_takes_one_call_and_one_token_event() -> None:
    script = Script()
    bench = Bench(script, streaming=False)
    await bench.execution.run()
    assert [type(one) for one in bench.payloads] == [TokenPayload, UsagePayload, CompletePayload]
    assert bench.text == ANSWER


@pytest.mark.req("FR-009")
async def test_usage_is_told_about_every_fifty_completion_tokens() -> None:
    bench = Bench(Script(words=["w "] * 120), usage_every=50)
    await bench.execution.run()
    on_the_way = [one.usage.completion_tokens for one in bench.payloads[:-2] if isinstance(one, UsagePayload)]
    assert on_the_way == [50, 100]


async def test_usage_on_the_way_is_told_only_when_asked_for() -> None:
    bench = Bench(Script(words=["w "] * 120))
    await bench.execution.run()
    assert sum(isinstance(one, UsagePayload) for one in bench.payloads) == 1


@pytest.mark.req("PR-005")
@pytest.mark.parametrize("broken", range(len(WORDS) + 1))
async def test_text_goes_on_after_the_gateway_went_away_at_any_position(broken: int) -> None:
    script = Script(break_after=[broken])
    bench = Bench(script)
    await bench.execution.run()
    assert bench.text == ANSWER
    assert script.calls[1].continue_from == "".join(WORDS[:broken])
    legs = bench.usage.legs
    assert [leg.outcome for leg in legs] == ["interrupted", "stop"]
    assert legs[0].usage.estimated
    assert bench.usage.usage.completion_tokens == len(WORDS)
    assert bench.usage.usage.prompt_tokens == 2 * PROMPT_TOKENS


async def test_a_tool_call_goes_on_by_repetition_with_its_first_id() -> None:
    bench = Bench(Script(tool=True, break_after=[5]))
    await bench.execution.run()
    ids = [
        one.tool_call_id for payload in bench.payloads if isinstance(payload, TokenPayload) for one in payload.deltas
    ]
    assert [one for one in ids if one] == ["call1"]
    assert bench.text == "f" + ANSWER


async def test_two_choices_go_on_by_repetition() -> None:
    bench = Bench(Script(break_after=[7]), call=call(options=ModelOptions(n=2)))
    await bench.execution.run()
    assert bench.text == ANSWER * 2
    assert list(bench.complete.finish_reasons) == ["stop", "stop"]


async def test_a_structured_answer_that_turns_out_differently_ends_interrupted() -> None:
    script = Script(break_after=[3])
    bench = Bench(script, call=call(options=ModelOptions(n=2)))
    bench.context.delivered.add([delta("something else")])
    await bench.execution.run()
    assert bench.error.reason is Reason.UPSTREAM_INTERRUPTED


async def test_a_gateway_that_stays_away_is_told_after_the_patience() -> None:
    bench = Bench(Script(break_after=[0] * 1000), patience_s=0.2)
    await bench.execution.run()
    assert bench.error.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_models_own_error_ends_the_run_at_once() -> None:
    script = Script(failure=PlatformError(Reason.MODEL_NOT_FOUND, "no such model", model="m"))
    bench = Bench(script)
    await bench.execution.run()
    assert bench.error.reason is Reason.MODEL_NOT_FOUND
    assert len(script.calls) == 1
    assert bench.usage.usage.total_tokens == 0


async def test_a_defect_ends_the_run_without_telling_its_text() -> None:
    bench = Bench(Script())

    async def broken(payload: Payload) -> None:
        if isinstance(payload, TokenPayload):
            raise RuntimeError("secret")
        bench.payloads.append(payload)

    bench.context.emit = broken
    await bench.execution.run()
    assert bench.error.reason is Reason.INTERNAL
    assert "secret" not in str(bench.payloads[-1])


@pytest.mark.req("FR-020")
async def test_a_cancelled_run_stops_the_model_and_ends_cancelled() -> None:
    script = Script(hold_after=5)
    bench = Bench(script)
    stop: asyncio.Future[StopCause] = asyncio.get_running_loop().create_future()
    run = asyncio.ensure_future(bench.execution.run(stop))
    await script.held.wait()
    stop.set_result(StopCause.CANCELLED)
    await run
    assert script.cancelled.is_set()
    assert bench.complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED
    assert bench.usage.usage.completion_tokens == 5
    assert bench.usage.usage.estimated


async def test_a_run_cancelled_before_it_began_calls_no_model() -> None:
    script = Script()
    bench = Bench(script)
    stop: asyncio.Future[StopCause] = asyncio.get_running_loop().create_future()
    stop.set_result(StopCause.CANCELLED)
    await bench.execution.run(stop)
    assert not script.calls
    assert bench.complete.outcome == RunOutcome.RUN_OUTCOME_CANCELLED
    assert bench.usage.usage.total_tokens == 0


async def test_a_run_that_is_let_go_emits_no_end() -> None:
    script = Script(hold_after=2)
    bench = Bench(script)
    stop: asyncio.Future[StopCause] = asyncio.get_running_loop().create_future()
    run = asyncio.ensure_future(bench.execution.run(stop))
    await script.held.wait()
    stop.set_result(StopCause.LEFT)
    with pytest.raises(Left):
        await run
    assert all(isinstance(one, TokenPayload) for one in bench.payloads)


async def test_a_text_cut_by_the_deadline_ends_incomplete() -> None:
    bench = Bench(Script(hold_after=4), timeout_s=0.1)
    await bench.execution.run()
    assert bench.complete.outcome == RunOutcome.RUN_OUTCOME_INCOMPLETE
    assert list(bench.complete.finish_reasons) == ["length"]
    assert bench.usage.usage.completion_tokens == 4


@pytest.mark.parametrize("script", [Script(hold_after=0), Script(hold_after=3, tool=True)])
async def test_a_deadline_without_any_usable_answer_is_an_error(script: Script) -> None:
    bench = Bench(Script(hold_after=script.hold_after, tool=script.tool), timeout_s=0.1)
    await bench.execution.run()
    assert bench.error.reason is Reason.DEADLINE_EXCEEDED
    assert bench.error.metadata["deadline_s"] == "0.1"


@pytest.mark.req("FR-008")
async def test_status_of_the_gateway_passes_through() -> None:
    bench = Bench(Script(status="the second model goes on"))
    await bench.execution.run()
    assert bench.payloads[0] == StatusPayload(message="the second model goes on")
