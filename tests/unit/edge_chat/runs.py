"""Runs to fold: builders of events, and a RunService that plays them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio

from fastchat.common.v1 import event_pb2 as pb
from fastchat.common.v1.usage_pb2 import Usage
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from kit.errors import PlatformError, Reason

RUN_ID = "01890000-0000-7000-8000-000000000001"


def text(content: str, **fields: Any) -> pb.TokenPayload:
    """A text delta."""
    return pb.TokenPayload(deltas=[pb.TokenDelta(kind=pb.TOKEN_KIND_TEXT, text=content, merged=1, **fields)])


def delta(kind: pb.TokenKind.ValueType, content: str, **fields: Any) -> pb.TokenPayload:
    """A delta of another kind."""
    return pb.TokenPayload(deltas=[pb.TokenDelta(kind=kind, text=content, merged=1, **fields)])


def usage(prompt: int = 9, completion: int = 3, window: int = 128_000, *, is_final: bool = True) -> pb.UsagePayload:
    """A usage report."""
    counts = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
    return pb.UsagePayload(usage=counts, context_window=window, is_final=is_final)


def complete(*reasons: str, outcome: pb.RunOutcome.ValueType = pb.RUN_OUTCOME_COMPLETED) -> pb.CompletePayload:
    """A good end."""
    return pb.CompletePayload(outcome=outcome, finish_reasons=reasons or ["stop"])


def failed(reason: Reason = Reason.UPSTREAM_ERROR, message: str = "the provider failed") -> pb.ErrorPayload:
    """A bad end."""
    return PlatformError(reason, message, provider="mock").to_event()


def started(projection_json: str = "", **fields: Any) -> pb.RunStarted:
    """Event 1."""
    given: dict[str, Any] = {
        "public_id": "chatcmpl-1",
        "created": 1_700_000_000,
        "model": "m",
        "mode": pb.RUN_MODE_CHAT,
        "projection_version": 1,
        "graph": "chat@1",
        "projection_json": projection_json,
    }
    return pb.RunStarted(**given | fields)


_FIELDS = {
    pb.RunStarted: "started",
    pb.TokenPayload: "token",
    pb.StatusPayload: "status",
    pb.UsagePayload: "usage",
    pb.ToolPayload: "tool",
    pb.AgentPayload: "agent",
    pb.CitationPayload: "citation",
    pb.InterruptPayload: "interrupt",
    pb.ContextSummarizedPayload: "context_summarized",
    pb.ErrorPayload: "error",
    pb.CompletePayload: "complete",
}


def numbered(payloads: Sequence[Any], thread_id: str = "", run_id: str = RUN_ID) -> list[pb.RunEvent]:
    """The events of a run, with fixed ids and times."""
    events = []
    for sequence, payload in enumerate(payloads, 1):
        event = pb.RunEvent(
            event_id=f"00000000-0000-4000-8000-{sequence:012d}",
            run_id=run_id,
            sequence=sequence,
            trace_id="0af7651916cd43dd8448eb211c80319c",
            thread_id=thread_id,
            **{_FIELDS[type(payload)]: payload},
        )
        event.time.FromMilliseconds(1_700_000_000_000 + 10 * sequence)
        events.append(event)
    return events


class Break(Exception):
    """A step of a script: the stream breaks with this status, or is ended by the service with this error."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, told: PlatformError | None = None) -> None:
        self.code = code
        self.trailers = grpc.aio.Metadata()
        if told is not None:
            self.trailers.add("grpc-status-details-bin", told.to_status().SerializeToString())


class Call:
    """A stream of responses that can be cancelled, as grpc.aio's are."""

    def __init__(self, script: AsyncIterator[list[pb.RunEvent]]) -> None:
        self._script = script
        self.cancelled = asyncio.Event()

    def cancel(self) -> bool:
        """Cancel."""
        self.cancelled.set()
        return True

    async def __aiter__(self) -> AsyncIterator[runs_pb.StartRunResponse]:
        while True:
            step: asyncio.Task[list[pb.RunEvent] | None] = asyncio.ensure_future(anext(self._script, None))  # type: ignore[arg-type]
            left = asyncio.ensure_future(self.cancelled.wait())
            await asyncio.wait({step, left}, return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
            if not step.done():
                step.cancel()
                raise asyncio.CancelledError
            try:
                group = step.result()
            except Break as error:
                raise grpc.aio.AioRpcError(error.code, grpc.aio.Metadata(), error.trailers, "broken") from None
            if group is None:
                return
            yield runs_pb.StartRunResponse(event=group[0], more=group[1:])


class Runs:
    """A RunService that plays a script: payloads, lists of them (one message), Breaks, Events to wait for, callables.

    The script's run gets what the request tells (started, thread id), so that projections are as in the real thing.
    """

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.started: list[runs_pb.StartRunRequest] = []
        self.attached: list[runs_pb.AttachRunRequest] = []
        self.cancels: list[runs_pb.CancelRunRequest] = []
        self.calls: list[Call] = []
        self._position = 0
        self._log: list[pb.RunEvent] = []

    def StartRun(self, request: runs_pb.StartRunRequest) -> Call:
        """Play from where the script stands."""
        self.started.append(request)
        return self._play(0)

    def AttachRun(self, request: runs_pb.AttachRunRequest) -> Call:
        """What was played after the cursor, then the rest."""
        self.attached.append(request)
        return self._play(request.after_sequence)

    async def CancelRun(self, request: runs_pb.CancelRunRequest) -> runs_pb.CancelRunResponse:
        """Record it."""
        self.cancels.append(request)
        return runs_pb.CancelRunResponse(run=runs_pb.Run(run_id=request.run_id))

    def _play(self, after: int) -> Call:
        call = Call(self._steps(after))
        self.calls.append(call)
        return call

    async def _steps(self, after: int) -> AsyncIterator[list[pb.RunEvent]]:
        for event in self._log[after:]:
            yield [event]
        while self._position < len(self.script):
            step = self.script[self._position]
            if callable(step):
                step()
                self._position += 1
                continue
            if isinstance(step, asyncio.Event):
                await step.wait()
                self._position += 1
                continue
            self._position += 1
            if isinstance(step, Break):
                raise step
            yield self._append(step if isinstance(step, list) else [step])

    def _append(self, payloads: list[Any]) -> list[pb.RunEvent]:
        request = self.started[0] if self.started else runs_pb.StartRunRequest(run_id=RUN_ID, started=started())
        told = [request.started if payload is STARTED else payload for payload in payloads]
        known = [getattr(event, event.WhichOneof("payload") or "") for event in self._log]
        events = numbered([*known, *told], request.thread_id, request.run_id)[len(known) :]
        self._log += events
        return events


STARTED = object()
"""Stands in a script for what the request says."""
