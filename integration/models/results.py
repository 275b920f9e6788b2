"""Answers and deltas as the protos of the model service."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from fastchat.common.v1.event_pb2 import StatusKind, StatusPayload, TokenDelta, TokenPayload
from fastchat.common.v1.usage_pb2 import LegUsage
from fastchat.integration.v1.model_service_pb2 import (
    Embedding,
    Model,
    ModelChoice,
    ModelMode,
    ModelResult,
    StreamModelResponse,
)
from integration.models.accounting import total
from integration.models.chain import Switched
from integration.models.deployments import Deployment, context_window, max_output
from integration.models.messages import to_chat_message
from integration.models.port import Answer, Delta, End, Vectors

_MODES = {
    "chat": ModelMode.MODEL_MODE_CHAT,
    "responses": ModelMode.MODEL_MODE_RESPONSES,
    "embedding": ModelMode.MODEL_MODE_EMBEDDING,
}


def tokens(deltas: Sequence[Delta]) -> StreamModelResponse:
    """New output."""
    return StreamModelResponse(token=TokenPayload(deltas=[_delta(delta) for delta in deltas]))


def _delta(delta: Delta) -> TokenDelta:
    result = TokenDelta(kind=delta.kind, text=delta.text, merged=delta.merged)
    if delta.choice:
        result.choice_index = delta.choice
    if delta.tool_index:
        result.tool_index = delta.tool_index
    if delta.tool_name:
        result.tool_call_id, result.tool_name = delta.tool_call_id, delta.tool_name
    if delta.logprobs:
        result.logprobs_json = orjson.dumps(delta.logprobs).decode()
    return result


def status(switched: Switched) -> StreamModelResponse:
    """Tells readers that another model takes over."""
    again = switched.before is switched.after
    how = "goes on" if switched.mid_answer else "takes over"
    message = f"{switched.before.alias} did not answer in time or failed; {switched.after.alias} {how}."
    if again:
        message = f"{switched.before.alias} broke off; it is asked again."
    details = {
        "from": switched.before.alias,
        "to": switched.after.alias,
        "reason": switched.outcome,
        "mid_answer": switched.mid_answer,
    }
    payload = StatusPayload(
        kind=StatusKind.STATUS_KIND_ERROR, message=message, details_json=orjson.dumps(details).decode()
    )
    return StreamModelResponse(status=payload)


def of_end(end: End, answered_by: Deployment, legs: Sequence[LegUsage], latency_s: float) -> ModelResult:
    """The end of a stream: finish reasons without content."""
    result = _result(end.model, end.fingerprint, answered_by, legs, latency_s)
    for index in sorted(end.finish):
        result.choices.append(ModelChoice(index=index, finish_reason=end.finish[index]))
    result.finish_reason = end.finish.get(0, "stop")
    return result


def of_answer(answer: Answer, answered_by: Deployment, legs: Sequence[LegUsage], latency_s: float) -> ModelResult:
    """A whole answer."""
    end = answer.end
    result = _result(end.model, end.fingerprint, answered_by, legs, latency_s)
    for index, choice in enumerate(answer.choices):
        logprobs = orjson.dumps(choice.logprobs).decode() if choice.logprobs else ""
        result.choices.append(
            ModelChoice(
                index=index,
                message=to_chat_message(choice),
                finish_reason=end.finish.get(index, "stop"),
                logprobs_json=logprobs,
            )
        )
    result.finish_reason = end.finish.get(0, "stop")
    return result


def of_vectors(vectors: Vectors, answered_by: Deployment, legs: Sequence[LegUsage], latency_s: float) -> ModelResult:
    """Embeddings."""
    result = _result(vectors.model, "", answered_by, legs, latency_s)
    result.embeddings.extend(Embedding(values=values) for values in vectors.values)
    return result


def _result(
    model: str, fingerprint: str, answered_by: Deployment, legs: Sequence[LegUsage], latency_s: float
) -> ModelResult:
    return ModelResult(
        usage=total(legs),
        provider=answered_by.target.provider,
        model_resolved=model or answered_by.target.model,
        latency_ms=round(latency_s * 1000),
        alias_resolved=answered_by.alias,
        legs=legs,
        system_fingerprint=fingerprint,
    )


def model(deployment: Deployment) -> Model:
    """An alias as clients see it."""
    return Model(
        alias=deployment.alias,
        modes=[_MODES[mode] for mode in ("chat", "responses", "embedding") if mode in deployment.entry.modes],
        context_window=context_window(deployment),
        max_output_tokens=max_output(deployment),
        provider=deployment.target.provider,
        created=deployment.entry.created,
    )
