"""Small things that orchestrator tests are made of."""

from __future__ import annotations

from fastchat.common.v1.event_pb2 import (
    CompletePayload,
    RunEvent,
    RunMode,
    RunOutcome,
    RunStarted,
    TokenDelta,
    TokenKind,
    TokenPayload,
)
from fastchat.common.v1.message_pb2 import ChatMessage, ContentPart, Role
from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelMode
from fastchat.orchestrator.v1.run_service_pb2 import StartRunRequest
from kit.ids import new_uuid

TEXT = TokenKind.TOKEN_KIND_TEXT
REASONING = TokenKind.TOKEN_KIND_REASONING
TOOL = TokenKind.TOKEN_KIND_TOOL_ARGUMENTS


def delta(text: str, kind: TokenKind.ValueType = TEXT, choice: int = 0, **more: object) -> TokenDelta:
    """One provider chunk."""
    return TokenDelta(kind=kind, choice_index=choice, text=text, merged=1, **more)  # type: ignore[arg-type]


def token(*texts: str) -> TokenPayload:
    """Text chunks of choice 0."""
    return TokenPayload(deltas=[delta(text) for text in texts])


def event(sequence: int, payload: object) -> RunEvent:
    """A numbered event."""
    result = RunEvent(event_id=f"e{sequence}", run_id="run", sequence=sequence)
    names = {TokenPayload: "token", RunStarted: "started", CompletePayload: "complete"}
    getattr(result, names[type(payload)]).CopyFrom(payload)  # type: ignore[index]
    return result


def call(tenant_id: str = "t1", text: str = "Say something.", **more: object) -> ModelCall:
    """A chat call."""
    message = ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text=text)])
    result = ModelCall(tenant_id=tenant_id, model_alias="m", mode=ModelMode.MODEL_MODE_CHAT, messages=[message])
    result.MergeFrom(ModelCall(**more))  # type: ignore[arg-type]
    return result


def started(**more: object) -> RunStarted:
    """What edge tells of a run."""
    values: dict[str, object] = {"public_id": "chatcmpl-1", "created": 1, "model": "m", "mode": RunMode.RUN_MODE_CHAT}
    return RunStarted(**{**values, **more})  # type: ignore[arg-type]


def start_request(durable: bool = False, tenant_id: str = "t1", **more: object) -> StartRunRequest:
    """A start as edge sends it."""
    values: dict[str, object] = {
        "tenant_id": tenant_id,
        "run_id": new_uuid(),
        "call": call(tenant_id),
        "started": started(),
        "durable": durable,
    }
    return StartRunRequest(**{**values, **more})  # type: ignore[arg-type]


def complete() -> CompletePayload:
    """A good end."""
    return CompletePayload(outcome=RunOutcome.RUN_OUTCOME_COMPLETED, finish_reasons=["stop"])
