"""The LLM node: one answer of a model, over as many legs as it takes to get it to its end."""

from __future__ import annotations

import asyncio
import random

from langgraph.runtime import Runtime

from fastchat.common.v1.event_pb2 import TokenPayload, UsagePayload
from fastchat.integration.v1.model_service_pb2 import ModelResult
from kit.errors import PlatformError, Reason
from kit.telemetry import get_logger
from orchestrator.continuation import Leg, call_for, next_leg
from orchestrator.nodes.legs import close_leg, open_leg
from orchestrator.nodes.port import GraphState, RunContext
from orchestrator.nodes.whole import deltas_of

log = get_logger(__name__)

# The gateway went away or is going: not the model's fault, and its next replica (or start) can go on.
_LOST = frozenset({Reason.DEPENDENCY_UNAVAILABLE, Reason.DRAINING})
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


async def llm(state: GraphState, runtime: Runtime[RunContext]) -> GraphState:
    """Calls the model of the run and emits its output until the answer has ended. Raises what ended it otherwise."""
    context = runtime.context
    patience = _Patience(context)
    while True:
        leg = next_leg(context.call, context.delivered)
        open_leg(context)
        try:
            result = await (_stream(context, leg) if context.streaming else _whole(context, leg))
        except PlatformError as lost:
            if lost.reason not in _LOST or not patience.left(moved=bool(context.leg_parts)):
                raise
            log.warning("model leg lost", reason=lost.reason.name)
            await close_leg(context, "interrupted")
        else:
            context.leg_open = False
            return {"result": result}
        await patience.pause()


class _Patience:
    """How long to go on without a gateway; a leg that delivered something starts the clock anew."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._ends = 0.0
        self._pause = _FIRST_PAUSE_S

    def left(self, *, moved: bool) -> bool:
        now = asyncio.get_running_loop().time()
        if moved or not self._ends:
            self._ends, self._pause = now + self._context.patience_s, _FIRST_PAUSE_S
        return now + self._pause < min(self._ends, self._context.deadline)

    async def pause(self) -> None:
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter is no secret
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)


async def _stream(context: RunContext, leg: Leg) -> ModelResult:
    async for piece in context.models.stream(
        call_for(context.call, leg, context.legs), _left(context), context.usage_every
    ):
        kind = piece.WhichOneof("piece")
        if kind == "token":
            if (news := leg.accept(piece.token)) is not None:
                await _tell(context, news)
        elif kind == "status":
            await context.emit(piece.status)
        elif kind == "usage":
            await context.emit(UsagePayload(usage=piece.usage, context_window=context.context_window))
        elif kind == "result":
            leg.finish()
            return piece.result
    raise PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "The model's stream broke off.", dependency="integration")


async def _whole(context: RunContext, leg: Leg) -> ModelResult:
    result = await context.models.call(call_for(context.call, leg, context.legs), _left(context))
    news = leg.accept(TokenPayload(deltas=[delta for choice in result.choices for delta in deltas_of(choice)]))
    leg.finish()
    if news is not None and news.deltas:
        await _tell(context, news)
    return result


async def _tell(context: RunContext, news: TokenPayload) -> None:
    context.delivered.add(news.deltas)
    context.leg_parts.extend(delta.tool_name + delta.text for delta in news.deltas)
    await context.emit(news)


def _left(context: RunContext) -> float:
    return max(0.001, context.deadline - asyncio.get_running_loop().time())
