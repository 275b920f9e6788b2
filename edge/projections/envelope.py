"""RunEvents -> the event envelope of spec 7.3: {event_id, event_type, timestamp, trace_id, thread_id, payload}."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid5

import orjson

from edge.openai.errors import error_object
from edge.openai.render import usage_json
from edge.projections import sse
from edge.projections.names import STATUS_TYPES, name_of, rfc3339
from fastchat.common.v1 import event_pb2 as pb
from kit.errors import PlatformError, Reason

Json = dict[str, Any]


class EnvelopeProjection:
    """The envelopes of one run, one a frame: `id` is the frame's number, from 1."""

    def __init__(self) -> None:
        self.number = 0
        self.done = False

    def feed(self, event: pb.RunEvent) -> list[bytes]:
        """The frames that the event adds; the last event is followed by `[DONE]`."""
        kind = event.WhichOneof("payload")
        if kind is None:
            return []
        event_type, payloads = _PAYLOADS[kind]
        frames = [self._frame(event, event_type, position, payload) for position, payload in enumerate(payloads(event))]
        if kind in ("complete", "error"):
            self.done = True
            frames.append(sse.DONE)
        return frames

    def _frame(self, event: pb.RunEvent, event_type: str, position: int, payload: Json) -> bytes:
        self.number += 1
        envelope = {
            # several deltas of one event are several frames, and each has an id of its own
            "event_id": str(uuid5(UUID(event.event_id), str(position))) if position else event.event_id,
            "event_type": event_type,
            "timestamp": rfc3339(event.time),
            "trace_id": event.trace_id,
            "thread_id": event.thread_id or None,
            "payload": payload,
        }
        return sse.numbered(event_type, self.number, envelope)


def _started(event: pb.RunEvent) -> Iterable[Json]:
    started = event.started
    yield {
        "kind": "run_started",
        "run_id": event.run_id,
        "id": started.public_id,
        "created": started.created,
        "model": started.model,
        "graph": started.graph,
        "context_window": started.context_window or None,
        "response_message_id": started.response_message_id or None,
    }


def _tokens(event: pb.RunEvent) -> Iterable[Json]:
    for delta in event.token.deltas:
        payload: Json = {
            "kind": name_of(pb.TokenKind.Name(delta.kind), "TOKEN_KIND_"),
            "text": delta.text,
            "choice_index": delta.choice_index,
            "item_id": delta.item_id or None,
        }
        if delta.kind == pb.TOKEN_KIND_TOOL_ARGUMENTS:
            payload["tool_index"] = delta.tool_index
        if delta.tool_call_id:
            payload |= {"tool_call_id": delta.tool_call_id, "tool_name": delta.tool_name}
        if delta.logprobs_json:
            payload["logprobs"] = orjson.loads(delta.logprobs_json)
        yield payload


def _status(event: pb.RunEvent) -> Iterable[Json]:
    status = event.status
    yield {
        "type": STATUS_TYPES[status.kind],
        "message": status.message,
        "agent": status.agent or None,
        "tool": status.tool or None,
        "details": _parsed(status.details_json),
    }


def _usage(event: pb.RunEvent) -> Iterable[Json]:
    payload = event.usage
    usage, window = payload.usage, payload.context_window
    yield {
        **usage_json(usage),
        "context_window_limit": window,
        "context_utilization_pct": round(100 * usage.total_tokens / window, 1) if window else 0.0,
        "cost_micros": usage.cost_micros if usage.cost_known else None,
        "estimated": usage.estimated,
        "is_final": payload.is_final,
    }


def _tool(event: pb.RunEvent) -> Iterable[Json]:
    tool = event.tool
    yield {
        "call_id": tool.call_id,
        "tool_id": tool.tool_id,
        "phase": name_of(pb.ToolPhase.Name(tool.phase), "TOOL_PHASE_"),
        "arguments": _parsed(tool.arguments_json),
        "result": _parsed(tool.result_json),
    }


def _agent(event: pb.RunEvent) -> Iterable[Json]:
    agent = event.agent
    yield {
        "kind": name_of(pb.AgentEventKind.Name(agent.kind), "AGENT_EVENT_KIND_"),
        "name": agent.name,
        "duration_ms": agent.duration_ms,
        "details": _parsed(agent.details_json),
    }


def _citation(event: pb.RunEvent) -> Iterable[Json]:
    source = event.citation
    names = ("item_id", "start_index", "end_index", "chunk_id", "doc_id", "source_uri", "title")
    yield {name: getattr(source, name) for name in names}


def _interrupt(event: pb.RunEvent) -> Iterable[Json]:
    interrupt = event.interrupt
    yield {
        "interrupt_id": interrupt.interrupt_id,
        "type": interrupt.type,
        "proposal": _parsed(interrupt.proposal_json),
        "expires_at": rfc3339(interrupt.expires_at) if interrupt.HasField("expires_at") else None,
    }


def _summarized(event: pb.RunEvent) -> Iterable[Json]:
    summarized = event.context_summarized
    names = ("through_message_id", "tokens_before", "tokens_after")
    yield {"kind": "context_summarized", **{name: getattr(summarized, name) for name in names}}


def _error(event: pb.RunEvent) -> Iterable[Json]:
    failure = PlatformError.from_event(event.error)
    yield {**error_object(failure), "reason": Reason(failure.reason).name, "metadata": dict(failure.metadata)}


def _complete(event: pb.RunEvent) -> Iterable[Json]:
    complete = event.complete
    yield {
        "outcome": name_of(pb.RunOutcome.Name(complete.outcome), "RUN_OUTCOME_"),
        "finish_reasons": list(complete.finish_reasons),
    }


def _parsed(text: str) -> Any:
    """JSON text as a value; a model's broken arguments stay the text that they are."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


_PAYLOADS: dict[str, tuple[str, Callable[[pb.RunEvent], Iterable[Json]]]] = {
    "started": ("agent", _started),
    "token": ("token", _tokens),
    "status": ("status", _status),
    "usage": ("usage", _usage),
    "tool": ("tool", _tool),
    "agent": ("agent", _agent),
    "citation": ("citation", _citation),
    "interrupt": ("interrupt", _interrupt),
    "context_summarized": ("agent", _summarized),
    "error": ("error", _error),
    "complete": ("complete", _complete),
}
