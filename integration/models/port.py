"""What the gateway asks of a door to a provider, and what a door answers, in no provider's terms.

A door makes one request to one provider and never tries twice: retries, timeouts and fallback are the chain's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastchat.common.v1.event_pb2 import TokenKind
from kit.errors import PlatformError

Json = dict[str, Any]

TEXT = TokenKind.TOKEN_KIND_TEXT
REASONING = TokenKind.TOKEN_KIND_REASONING
REFUSAL = TokenKind.TOKEN_KIND_REFUSAL
TOOL_ARGUMENTS = TokenKind.TOKEN_KIND_TOOL_ARGUMENTS


@dataclass(slots=True)
class Delta:
    """An addition to one output of one choice; `merged` provider chunks make it up."""

    kind: TokenKind.ValueType
    text: str
    choice: int = 0
    tool_index: int = 0
    tool_call_id: str = ""
    tool_name: str = ""
    logprobs: list[Json] | None = None
    merged: int = 1


@dataclass(frozen=True, slots=True)
class Told:
    """Token counts as a provider told them."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class End:
    """How a provider ended its answer. `finish` holds the finish reason of each choice."""

    finish: dict[int, str]
    usage: Told | None = None
    model: str = ""
    fingerprint: str = ""


@dataclass(slots=True)
class Batch:
    """What one read gave: deltas in order, already merged; `end` on the last batch of an answer."""

    deltas: list[Delta]
    end: End | None = None


@dataclass(slots=True)
class Choice:
    """One choice of a whole answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, name, arguments JSON text)."""
    logprobs: Json | None = None


@dataclass(slots=True)
class Answer:
    """A whole answer: choices in order of index."""

    choices: list[Choice]
    end: End


@dataclass(slots=True)
class Vectors:
    """Embeddings in order of input."""

    values: Sequence[Sequence[float]]
    usage: Told | None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One provider's model as LiteLLM knows it, credentials resolved. Never logged: `repr` tells no secret."""

    provider: str
    model: str
    api_base: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    """Every other parameter of the entry's `litellm` object."""
    connect_timeout_s: float = 5.0
    total_timeout_s: float = 600.0

    @property
    def name(self) -> str:
        """What spans, metrics and errors call it: "openai/gpt-4o"."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat call. `params` are OpenAI's, `extra` goes into the body as it is (providers with OpenAI's wire only)."""

    messages: list[Json]
    params: Json
    extra: Json = field(default_factory=dict)
    responses: bool = False
    """Whether to go through the provider's Responses API."""


class Door(Protocol):
    """A way to a kind of provider. Every failure is a `Failure`; a cut answer is one too."""

    def stream(self, target: Target, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """The answer as it comes; the last batch carries `end`. Closing the generator closes the upstream request."""
        ...

    async def call(self, target: Target, request: ChatRequest) -> Answer:
        """The whole answer."""
        ...

    async def embed(self, target: Target, texts: Sequence[str], params: Json) -> Vectors:
        """Vectors for texts. `params`: dimensions, user."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Failure(Exception):
    """A request to a provider failed. `error` is for the caller; the rest tells the chain what to do about it."""

    def __init__(
        self,
        error: PlatformError,
        *,
        retryable: bool,
        outcome: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.retryable = retryable
        """Whether another try, here or at another provider, may do better."""
        self.outcome = outcome or error.reason.name.lower()
        """What the leg's record says."""
        self.retry_after_s = retry_after_s
        """When the provider says that trying again makes sense."""
