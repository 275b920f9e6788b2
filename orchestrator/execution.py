"""One execution of a run's graph, to any sink: what it emits always ends with final usage and the terminal event."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from fastchat.common.v1.event_pb2 import TokenKind
from fastchat.integration.v1.model_service_pb2 import ModelResult
from kit.errors import PlatformError, Reason
from kit.telemetry import current_trace_id, get_logger
from orchestrator import events
from orchestrator.coalesce import SinkClosed
from orchestrator.graphs.registry import Graph
from orchestrator.nodes.legs import close_leg
from orchestrator.nodes.port import RunContext
from orchestrator.usage import legs_of, total

log = get_logger(__name__)


class StopCause(Enum):
    """Why an execution is stopped from outside."""

    CANCELLED = "cancelled"
    """Somebody cancelled the run: it ends here."""
    LEFT = "left"
    """This replica lets go of the run (drain, lease lost): its log stays open for the next owner."""


class Left(Exception):  # not an error: the run goes on elsewhere
    """The execution was stopped without an end."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A graph and the context that it runs in. ``timeout_s`` is what the run was given in all, for its error."""

    graph: Graph
    context: RunContext
    timeout_s: float
    has_final_usage: bool = False
    resumable: bool = True

    async def run(self, stop: asyncio.Future[StopCause] | None = None) -> None:
        """Runs to the terminal event. Raises Left when stopped so, SinkClosed when the sink takes no more."""
        if stop is not None and stop.done():
            await self._stopped(stop.result())
            return
        work = asyncio.ensure_future(self.graph.run(self.context, resumable=self.resumable))
        try:
            waits: set[asyncio.Future[object]] = {work, stop} if stop is not None else {work}  # type: ignore[arg-type]
            await asyncio.wait(waits, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()
        if work.done():
            await self._ended(work)
            return
        await asyncio.wait({work})
        if stop is not None and stop.done():
            await self._stopped(stop.result())
        else:
            await self._timed_out()

    def _left(self) -> float:
        return max(0.0, self.context.deadline - asyncio.get_running_loop().time())

    async def _ended(self, work: asyncio.Future[ModelResult]) -> None:
        try:
            result = work.result()
        except SinkClosed:
            raise
        except PlatformError as error:
            if error.reason is Reason.DEADLINE_EXCEEDED and self._left() <= 0:
                await self._timed_out()
            else:
                await self.fail(error)
        except Exception as error:
            log.exception("run failed", exc_info=error)
            await self.fail(PlatformError(Reason.INTERNAL, "The run failed.", trace_id=current_trace_id()))
        else:
            await self._completed(result)

    async def _completed(self, result: ModelResult) -> None:
        self.context.legs[:] = legs_of(result, self.context.legs)
        await self._tell_usage()
        reasons = [choice.finish_reason for choice in sorted(result.choices, key=lambda choice: choice.index)]
        await self.context.emit(events.completed(reasons or [result.finish_reason]))

    async def _stopped(self, cause: StopCause) -> None:
        if cause is StopCause.LEFT:
            raise Left
        await close_leg(self.context, "cancelled")
        await self._tell_usage()
        await self.context.emit(events.cancelled(self.context.delivered.choices))

    async def _timed_out(self) -> None:
        """Text so far is an answer, cut short; half a tool call, or nothing, is none."""
        delivered = self.context.delivered
        if delivered.has(TokenKind.TOKEN_KIND_TEXT) and not delivered.has(TokenKind.TOKEN_KIND_TOOL_ARGUMENTS):
            await close_leg(self.context, "incomplete")
            await self._tell_usage()
            await self.context.emit(events.incomplete(delivered.choices))
            return
        seconds = f"{self.timeout_s:g}"
        text = f"The run was not done within its {seconds} s."
        await self.fail(PlatformError(Reason.DEADLINE_EXCEEDED, text, deadline_s=seconds))

    async def fail(self, error: PlatformError) -> None:
        """Ends the run with an error."""
        if self.context.leg_parts:
            await close_leg(self.context, error.reason.name.lower())
        await self._tell_usage()
        await self.context.emit(error.to_event())

    async def _tell_usage(self) -> None:
        if not self.has_final_usage:
            legs = self.context.legs
            await self.context.emit(events.final_usage(total(legs), legs, self.context.context_window))
