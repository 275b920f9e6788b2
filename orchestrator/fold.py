"""What a run's events add up to: how far it came, what its readers saw, how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from fastchat.common.v1.event_pb2 import (
    CompletePayload,
    ErrorPayload,
    RunEvent,
    RunStarted,
    TokenDelta,
    TokenKind,
    UsagePayload,
)


class OutputKey(NamedTuple):
    """One thing that deltas extend: an output item's text of one kind, or one tool call's arguments."""

    kind: TokenKind.ValueType
    choice_index: int
    tool_index: int = 0
    item_id: str = ""

    @staticmethod
    def of(delta: TokenDelta) -> OutputKey:
        """The output that a delta extends."""
        return OutputKey(delta.kind, delta.choice_index, delta.tool_index, delta.item_id)


@dataclass(slots=True)
class Output:
    """Text delivered so far; for a tool call also its name."""

    parts: list[str] = field(default_factory=list)
    tool_name: str = ""
    opened: bool = False
    chunks: int = 0

    @property
    def text(self) -> str:
        """All parts in order."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""


class Delivered:
    """Everything that readers of a run saw of its answer."""

    def __init__(self) -> None:
        self.outputs: dict[OutputKey, Output] = {}

    def add(self, deltas: Iterable[TokenDelta]) -> None:
        """Counts deltas as seen."""
        for delta in deltas:
            key = OutputKey.of(delta)
            output = self.outputs.get(key)
            if output is None:
                output = self.outputs[key] = Output()
            output.opened = True
            output.chunks += max(1, delta.merged)
            if delta.text:
                output.parts.append(delta.text)
            if delta.tool_name:
                output.tool_name = delta.tool_name

    def copy(self) -> Delivered:
        """An independent copy."""
        other = Delivered()
        for key, output in self.outputs.items():
            other.outputs[key] = Output([output.text], output.tool_name, output.opened, output.chunks)
        return other

    def text(self, kind: TokenKind.ValueType = TokenKind.TOKEN_KIND_TEXT, choice_index: int = 0) -> str:
        """All text of one kind of a choice, over its items."""
        return "".join(
            output.text for key, output in self.outputs.items() if key.kind == kind and key.choice_index == choice_index
        )

    def all_text(self) -> str:
        """Everything, one output after the other: what a completion's tokens are counted on."""
        return "".join(output.tool_name + output.text for output in self.outputs.values())

    def has(self, *kinds: TokenKind.ValueType) -> bool:
        """Whether any output of these kinds was begun."""
        return any(key.kind in kinds for key in self.outputs)

    @property
    def empty(self) -> bool:
        """Whether nothing at all was delivered."""
        return not self.outputs

    @property
    def choices(self) -> int:
        """How many choices have been seen; at least 1."""
        return max((key.choice_index for key in self.outputs), default=0) + 1

    @property
    def chunks(self) -> int:
        """Provider chunks delivered: the nearest thing to a token count without a tokenizer."""
        return sum(output.chunks for output in self.outputs.values())


class RunFold:
    """A run as its log tells it, event by event."""

    def __init__(self) -> None:
        self.last_sequence = 0
        self.started: RunStarted | None = None
        self.trace_id = ""
        self.delivered = Delivered()
        self.usage: UsagePayload | None = None
        self.complete: CompletePayload | None = None
        self.error: ErrorPayload | None = None

    def add(self, event: RunEvent) -> None:
        """Counts the next event. Events that were already counted change nothing."""
        if event.sequence <= self.last_sequence:
            return
        self.last_sequence = event.sequence
        kind = event.WhichOneof("payload")
        if kind == "token":
            self.delivered.add(event.token.deltas)
        elif kind == "started":
            self.started = event.started
            self.trace_id = event.trace_id
        elif kind == "usage":
            self.usage = event.usage
        elif kind == "complete":
            self.complete = event.complete
        elif kind == "error":
            self.error = event.error

    @classmethod
    def of(cls, records: Iterable[bytes]) -> RunFold:
        """The fold of serialized events, in order."""
        fold = cls()
        for record in records:
            fold.add(RunEvent.FromString(record))
        return fold

    @property
    def ended(self) -> bool:
        """Whether the log has its last event."""
        return self.complete is not None or self.error is not None

    @property
    def has_final_usage(self) -> bool:
        """Whether the final count was told already."""
        return self.usage is not None and self.usage.is_final
