"""Records of the legs of one call: each request that was made to a provider, and what it spent."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from integration.models import tokens
from integration.models.accounting import Prices, usage_of
from integration.models.deployments import Deployment
from integration.models.port import Delta, Json, Told

# So many characters are counted on the loop; more go to a thread, or are estimated where there is no time for one.
_BLOCKING_CHARS = 20_000
_CHARS_PER_TOKEN = 4


@dataclass
class Leg:
    """One request to one provider."""

    deployment: Deployment
    messages: list[Json]
    tools: list[Json] | None
    started: float = field(default_factory=time.monotonic)
    first_output_s: float | None = None
    """Seconds until the first output."""
    ended: float | None = None
    told: Told | None = None
    model: str = ""
    outcome: str = ""
    billed: bool = True
    """Whether the provider got to work: refused requests and failed connections cost nothing."""
    chunks: int = 0
    """Provider chunks with output so far; most providers send a token in each."""
    _parts: list[str] = field(default_factory=list)
    _prompt_tokens: int | None = None

    def saw(self, deltas: list[Delta]) -> None:
        """Take note of output, for an estimate should the provider tell no usage."""
        if self.first_output_s is None and deltas:
            self.first_output_s = time.monotonic() - self.started
        for delta in deltas:
            self._parts.append(delta.tool_name + delta.text)
            self.chunks += delta.merged

    def end(self, outcome: str, *, billed: bool = True) -> None:
        """The leg is over. `outcome`: finish reason, or what ended it."""
        self.ended = self.ended or time.monotonic()
        self.outcome = self.outcome or outcome
        self.billed = billed

    @property
    def latency_s(self) -> float:
        """Wall time."""
        return (self.ended or time.monotonic()) - self.started

    def used(self) -> tuple[Told, bool]:
        """(counts, whether they are our own estimate)."""
        if self.told is not None:
            return self.told, False
        if not self.billed:
            return Told(), False
        target = self.deployment.target
        prompt = _estimate(lambda: tokens.count_prompt(target, self.messages, self.tools), repr(self.messages))
        output = "".join(self._parts)
        return Told(prompt, _estimate(lambda: tokens.count_text(target, output), output)), True

    def so_far(self) -> Usage:
        """What the leg spent until now: a chunk counts as a token, so that nothing is tokenized on the way."""
        if self._prompt_tokens is None:
            target = self.deployment.target
            self._prompt_tokens = _estimate(
                lambda: tokens.count_prompt(target, self.messages, self.tools), repr(self.messages)
            )
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self.chunks,
            total_tokens=self._prompt_tokens + self.chunks,
            estimated=True,
        )

    def record(self, prices: Prices) -> LegUsage:
        """The leg as it is told to the caller."""
        used, estimated = self.used()
        target = self.deployment.target
        return LegUsage(
            model_alias=self.deployment.alias,
            provider=target.provider,
            model_resolved=self.model or target.model,
            usage=usage_of(target, used, prices, estimated=estimated),
            latency_ms=round(self.latency_s * 1000),
            outcome=self.outcome,
        )


def _estimate(count: object, text: str) -> int:
    if len(text) > _BLOCKING_CHARS:
        return len(text) // _CHARS_PER_TOKEN
    return int(count())  # type: ignore[operator]
