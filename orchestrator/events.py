"""Numbering: payloads become RunEvents 1, 2, 3 ... of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from google.protobuf.message_factory import GetMessageClass

from fastchat.common.v1.event_pb2 import (
    AgentPayload,
    CitationPayload,
    CompletePayload,
    ContextSummarizedPayload,
    ErrorPayload,
    InterruptPayload,
    RunEvent,
    RunOutcome,
    RunStarted,
    StatusPayload,
    TokenPayload,
    ToolPayload,
    UsagePayload,
)
from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from kit.ids import new_uuid

Payload = (
    RunStarted
    | TokenPayload
    | StatusPayload
    | UsagePayload
    | ToolPayload
    | AgentPayload
    | CitationPayload
    | InterruptPayload
    | ContextSummarizedPayload
    | ErrorPayload
    | CompletePayload
)

# Message type -> name of the oneof's field; derived, so that a new payload cannot be forgotten.
_FIELD: dict[object, str] = {
    GetMessageClass(field.message_type): field.name
    for field in RunEvent.DESCRIPTOR.oneofs_by_name["payload"].fields
    if field.message_type is not None
}

# Version of edge's projections that runs of this release begin with (architecture section 4).
PROJECTION_VERSION = 1

_NANOS = 1_000_000_000


class Numbering:
    """Stamps the payloads of one run, in order, with their number, id and time.

    ``last`` is the number of the last event that the run already has; 0 for a new one.
    """

    def __init__(
        self,
        run_id: str,
        thread_id: str = "",
        trace_id: str = "",
        last: int = 0,
        clock_ns: Callable[[], int] = time.time_ns,
        new_event_id: Callable[[], str] = new_uuid,
    ) -> None:
        self._run_id = run_id
        self._thread_id = thread_id
        self._trace_id = trace_id
        self._clock_ns = clock_ns
        self._new_event_id = new_event_id
        self.last = last

    def stamp(self, payload: Payload) -> RunEvent:
        """The next event of the run."""
        self.last += 1
        event = RunEvent(
            event_id=self._new_event_id(),
            run_id=self._run_id,
            sequence=self.last,
            trace_id=self._trace_id,
            thread_id=self._thread_id,
            **{_FIELD[type(payload)]: payload},  # type: ignore[arg-type]  # the field that fits the type
        )
        seconds, nanos = divmod(self._clock_ns(), _NANOS)
        event.time.seconds, event.time.nanos = seconds, nanos
        return event


def is_terminal(event: RunEvent) -> bool:
    """Whether nothing follows this event."""
    return event.HasField("complete") or event.HasField("error")


def final_usage(usage: Usage, legs: Sequence[LegUsage], context_window: int) -> UsagePayload:
    """The one usage payload that comes right before a run's end."""
    return UsagePayload(usage=usage, context_window=context_window, is_final=True, legs=legs)


def completed(finish_reasons: Sequence[str]) -> CompletePayload:
    """The end of a run that went to its end."""
    return CompletePayload(outcome=RunOutcome.RUN_OUTCOME_COMPLETED, finish_reasons=finish_reasons)


def cancelled(choices: int) -> CompletePayload:
    """The end of a run that somebody stopped: every choice it had reads "stop"."""
    return CompletePayload(outcome=RunOutcome.RUN_OUTCOME_CANCELLED, finish_reasons=["stop"] * choices)


def incomplete(choices: int) -> CompletePayload:
    """The end of a run that its deadline cut, with what it had: every choice reads "length"."""
    return CompletePayload(outcome=RunOutcome.RUN_OUTCOME_INCOMPLETE, finish_reasons=["length"] * choices)
