"""What a node sees of the run that it works for, and what it may call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

from fastchat.common.v1.usage_pb2 import LegUsage
from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelResult, StreamModelResponse
from orchestrator.events import Payload
from orchestrator.fold import Delivered

Emit = Callable[[Payload], Awaitable[None]]


class ModelPort(Protocol):
    """The model gateway. Every method raises PlatformError; DEPENDENCY_UNAVAILABLE when it cannot be reached."""

    def stream(self, call: ModelCall, timeout_s: float, usage_every: int) -> AsyncIterator[StreamModelResponse]:
        """The answer piece by piece; closing the iterator cancels the provider's request.

        `usage_every`: usage so far is told about every that many completion tokens; 0: never.
        """
        ...

    async def call(self, call: ModelCall, timeout_s: float) -> ModelResult:
        """The whole answer at once."""
        ...

    async def count(self, call: ModelCall, text: str) -> tuple[int, int]:
        """Tokens of the call's prompt, and of a text in the model's tokens."""
        ...


@dataclass(slots=True)
class RunContext:
    """One execution of a graph. ``deadline`` is in the event loop's time, seconds."""

    call: ModelCall
    models: ModelPort
    emit: Emit
    deadline: float
    patience_s: float
    streaming: bool = True
    usage_every: int = 0
    context_window: int = 0
    delivered: Delivered = field(default_factory=Delivered)
    """What readers saw, of earlier legs too."""
    legs: list[LegUsage] = field(default_factory=list)
    """Legs that were lost, with their estimates."""
    leg_open: bool = False
    """Whether a model call is under way whose usage nobody has told yet."""
    leg_parts: list[str] = field(default_factory=list)
    """Output that the open leg delivered."""


class GraphState(TypedDict, total=False):
    """What flows between nodes."""

    result: ModelResult
