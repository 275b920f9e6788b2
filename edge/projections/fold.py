"""RunEvents -> the whole answer: for answers at once, and for history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from edge.openai.render import tool_calls_json, usage_json
from edge.projections.names import FINISH_BY_OUTCOME
from edge.projections.options import Options
from fastchat.common.v1 import event_pb2 as pb
from fastchat.common.v1 import message_pb2, usage_pb2


@dataclass(slots=True)
class Choice:
    """One choice as it grows."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    # tool index -> [id, name, argument pieces ...]
    calls: dict[int, list[str]] = field(default_factory=dict)
    text_logprobs: list[Any] = field(default_factory=list)
    refusal_logprobs: list[Any] = field(default_factory=list)

    def add(self, delta: pb.TokenDelta) -> None:
        """Take one delta."""
        if delta.kind == pb.TOKEN_KIND_TOOL_ARGUMENTS:
            call = self.calls.setdefault(delta.tool_index, ["", ""])
            call[0] = call[0] or delta.tool_call_id
            call[1] = call[1] or delta.tool_name
            call.append(delta.text)
            return
        pieces = self.text if delta.kind == pb.TOKEN_KIND_TEXT else self._side(delta.kind)
        pieces.append(delta.text)
        if delta.logprobs_json:
            refusing = delta.kind == pb.TOKEN_KIND_REFUSAL
            (self.refusal_logprobs if refusing else self.text_logprobs).extend(orjson.loads(delta.logprobs_json))

    def _side(self, kind: pb.TokenKind.ValueType) -> list[str]:
        return self.reasoning if kind == pb.TOKEN_KIND_REASONING else self.refusal

    @property
    def empty(self) -> bool:
        """Whether nothing came that is worth keeping."""
        return not (any(self.text) or self.calls or any(self.refusal) or any(self.reasoning))

    def message(self) -> message_pb2.ChatMessage:
        """The choice as a message of the assistant."""
        message = message_pb2.ChatMessage(
            role=message_pb2.ROLE_ASSISTANT, reasoning="".join(self.reasoning), refusal="".join(self.refusal)
        )
        text = "".join(self.text)
        if text or not (self.calls or message.refusal):
            message.content.add().text = text
            message.plain_text = True
        for index in sorted(self.calls):
            call_id, name, *arguments = self.calls[index]
            message.tool_calls.add(id=call_id, name=name, arguments_json="".join(arguments))
        return message

    def logprobs(self) -> dict[str, Any] | None:
        """OpenAI's choice.logprobs; None when none were told."""
        if not (self.text_logprobs or self.refusal_logprobs):
            return None
        return {"content": self.text_logprobs or None, "refusal": self.refusal_logprobs or None}


class Answer:
    """What a run has answered so far. Feed it the run's events from number 1."""

    def __init__(self) -> None:
        self.run_id = ""
        self.thread_id = ""
        self.started = pb.RunStarted()
        self.options = Options()
        self.choices: dict[int, Choice] = {}
        self.usage = usage_pb2.Usage()
        self.complete: pb.CompletePayload | None = None
        self.error: pb.ErrorPayload | None = None

    @property
    def ended(self) -> bool:
        """Whether the last event was fed."""
        return self.complete is not None or self.error is not None

    @property
    def outcome(self) -> str:
        """completed, cancelled, incomplete or failed; "" before the end."""
        if self.complete is not None:
            return pb.RunOutcome.Name(self.complete.outcome).removeprefix("RUN_OUTCOME_").lower()
        return "failed" if self.error is not None else ""

    def feed(self, event: pb.RunEvent) -> None:
        """Take one event."""
        kind = event.WhichOneof("payload")
        if kind == "token":
            self._tokens(event.token.deltas)
        elif kind == "started":
            self.run_id, self.thread_id, self.started = event.run_id, event.thread_id, event.started
            self.options = Options.of(event.started)
        elif kind == "usage":
            self.usage = event.usage.usage
        elif kind == "complete":
            self.complete = event.complete
        elif kind == "error":
            self.error = event.error

    def _tokens(self, deltas: Iterable[pb.TokenDelta]) -> None:
        for delta in deltas:
            choice = self.choices.get(delta.choice_index)
            if choice is None:
                choice = self.choices[delta.choice_index] = Choice()
            choice.add(delta)

    def finish_reason(self, index: int) -> str:
        """stop, length, tool_calls or content_filter."""
        complete = self.complete or pb.CompletePayload()
        told = complete.finish_reasons[index] if index < len(complete.finish_reasons) else ""
        return told or FINISH_BY_OUTCOME[complete.outcome]

    def indexes(self) -> list[int]:
        """Indexes of the choices, whether or not anything came for them."""
        return sorted({*range(self.options.n), *self.choices})

    def to_json(self) -> dict[str, Any]:
        """The chat completion object."""
        return {
            "id": self.started.public_id,
            "object": "chat.completion",
            "created": self.started.created,
            "model": self.started.model,
            "choices": [self._choice_json(index) for index in self.indexes()],
            "usage": usage_json(self.usage),
            "system_fingerprint": None,
        }

    def choice(self, index: int) -> Choice:
        """A choice; an empty one where nothing came."""
        return self.choices.get(index) or Choice()

    def _choice_json(self, index: int) -> dict[str, Any]:
        choice = self.choice(index)
        reason = self.finish_reason(index)
        message = choice.message()
        body: dict[str, Any] = {
            "role": "assistant",
            "content": message.content[0].text if message.content else None,
            "refusal": message.refusal or None,
            "annotations": [],
        }
        if message.reasoning:
            body["reasoning_content"] = message.reasoning
        if message.tool_calls:
            calls = tool_calls_json(message)
            if self.options.legacy_functions:
                body["function_call"] = calls[0]["function"]
                reason = "function_call" if reason == "tool_calls" else reason
            else:
                body["tool_calls"] = calls
        return {"index": index, "message": body, "logprobs": choice.logprobs(), "finish_reason": reason}
