"""One call over its alias and the fallbacks: retries, deadlines, cooldown, and going on where a leg broke off."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from integration.config import IntegrationConfig
from integration.models import failures, tokens
from integration.models.deployments import Deployment
from integration.models.legs import Leg
from integration.models.port import Batch, ChatRequest, Delta, End, Failure, Json, Target
from integration.models.splice import Delivered, Fresh, Splice, contradicted, splice_for
from kit.errors import PlatformError, Reason

T = TypeVar("T")
_UNBILLED = ("connect_error", "timeout_connect", "http_", "upstream_", "unsupported", "context_", "content_", "circuit")
# Providers that want to be told that the last message is to be continued.
_PREFIX_FLAG = frozenset({"mistral", "deepseek", "codestral"})


@dataclass(frozen=True, slots=True)
class Switched:
    """A new leg takes over."""

    before: Deployment
    after: Deployment
    outcome: str
    """What ended the leg before."""
    mid_answer: bool


@dataclass
class Chain:
    """The state of one call. `stream` or `run` may be used once."""

    candidates: Sequence[Deployment]
    config: IntegrationConfig
    delivered: Delivered = field(default_factory=Delivered)
    legs: list[Leg] = field(default_factory=list)
    end: End | None = None
    answered_by: Deployment | None = None
    on_switch: Callable[[Switched], None] = lambda switched: None
    _position: int = 0
    _turn: int = 0
    _tried: bool = False
    _passed_over: bool = False
    _last: Failure | None = None
    _failed_at: Deployment | None = None
    _switch: Switched | None = None

    async def stream(self, request: ChatRequest) -> AsyncGenerator[list[Delta] | Switched, None]:
        """News for the readers, and switches. Ends well, or raises PlatformError."""
        while (deployment := await self._next()) is not None:
            if self._switch is not None:
                yield self._switch
            try:
                async with aclosing(self._leg(deployment, request)) as leg:
                    async for news in leg:
                        yield news
            except Failure:
                continue
            self.answered_by = deployment
            return
        raise self._verdict()

    async def run(
        self, make: Callable[[Deployment], Awaitable[T]], messages: list[Json], tools: list[Json] | None
    ) -> T:
        """The same for answers that come whole: `make` asks one deployment."""
        while (deployment := await self._next()) is not None:
            leg = self._begin(deployment, messages, tools)
            try:
                result = await _within(make(deployment), deployment)
            except Failure as failure:
                self._failed(leg, failure)
                continue
            except BaseException as error:
                self._abandoned(leg, error)
                raise
            deployment.succeeded()
            self.answered_by = deployment
            return result
        raise self._verdict()

    def took(self, end: End) -> None:
        """How a whole answer ended."""
        self._ended(self.legs[-1], end)

    async def _next(self) -> Deployment | None:
        """The deployment to try next, after the pause that this takes; None: there is none."""
        if self._tried:
            if not self._goes_on():
                return None
            if await self._same_again():
                self._turn += 1
            else:
                self._position, self._turn = self._position + 1, 0
        while self._position < len(self.candidates):
            deployment = self.candidates[self._position]
            if self._admitted(deployment):
                self._tried, self._passed_over = True, False
                self._switch = self._switched_to(deployment)
                return deployment
            self._position, self._turn = self._position + 1, 0
        return None

    def _admitted(self, deployment: Deployment) -> bool:
        try:
            deployment.admit()
        except PlatformError as error:
            if self._last is None:
                self._last = Failure(error, retryable=True, outcome="circuit_open")
                self._failed_at = deployment
            return False
        return True

    def _goes_on(self) -> bool:
        return self._passed_over or (self._last is not None and self._last.retryable)

    async def _same_again(self) -> bool:
        """Wait before the next try of the same deployment; False: there is none."""
        failure = self._last
        deployment = self.candidates[self._position]
        final = self._position + 1 == len(self.candidates)
        if failure is None or self._passed_over or self._turn >= deployment.retries or (self.delivered and not final):
            return False
        asked = failure.retry_after_s
        if asked is not None and asked > self.config.backoff_max_s:
            return False
        longest = min(self.config.backoff_max_s, self.config.backoff_s * 2**self._turn)
        # a random part is left out, or all callers of a provider that failed come back at once
        pause = asked if asked is not None else longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        await asyncio.sleep(pause)
        return True

    def _switched_to(self, deployment: Deployment) -> Switched | None:
        before, failure = self._failed_at, self._last
        if before is None or failure is None or (before is deployment and not self.delivered):
            return None
        switched = Switched(before, deployment, failure.outcome, bool(self.delivered))
        self.on_switch(switched)
        return switched

    def _begin(self, deployment: Deployment, messages: list[Json], tools: list[Json] | None) -> Leg:
        leg = Leg(deployment, messages, tools)
        self.legs.append(leg)
        return leg

    async def _leg(self, deployment: Deployment, request: ChatRequest) -> AsyncGenerator[list[Delta], None]:
        splice = splice_for(self.delivered, request.params)
        own = _request_for(deployment.target, request, splice)
        leg = self._begin(deployment, own.messages, own.params.get("tools"))
        try:
            async with aclosing(timed(deployment.door.stream(deployment.target, own), deployment)) as stream:
                async for batch in stream:
                    leg.saw(batch.deltas)
                    if batch.end is not None:
                        self._ended(leg, batch.end)
                    news = splice.accept(batch.deltas)
                    if news:
                        self.delivered.add(news)
                        yield news
            rest = splice.finish()
        except Failure as failure:
            self._failed(leg, failure)
            raise
        except BaseException as error:
            self._abandoned(leg, error)
            raise
        deployment.succeeded()
        if rest:
            self.delivered.add(rest)
            yield rest

    def _ended(self, leg: Leg, end: End) -> None:
        leg.told, leg.model = end.usage, end.model
        leg.end(end.finish.get(0, "stop"))
        self.end = end

    def _failed(self, leg: Leg, failure: Failure) -> None:
        leg.end(failure.outcome, billed=leg.first_output_s is not None or not failure.outcome.startswith(_UNBILLED))
        leg.deployment.failed(failure)
        self._passed_over = self._position > 0 and failure.error.reason is Reason.UNSUPPORTED_FEATURE
        if self._passed_over and self._last is not None:
            return  # a fallback that cannot be asked does not hide why it was needed
        self._last, self._failed_at = failure, leg.deployment

    @staticmethod
    def _abandoned(leg: Leg, error: BaseException) -> None:
        leg.end(error.reason.name.lower() if isinstance(error, PlatformError) else "cancelled")
        leg.deployment.breaker.abandoned()

    def _verdict(self) -> PlatformError:
        failure = self._last
        if failure is None:
            return contradicted()
        error = failure.error
        if self.delivered and failure.retryable and error.reason is not Reason.UPSTREAM_INTERRUPTED:
            interrupted = PlatformError(Reason.UPSTREAM_INTERRUPTED, error.message)
            interrupted.metadata.update(error.metadata)
            return interrupted
        return error


async def timed(stream: AsyncGenerator[Batch, None], deployment: Deployment) -> AsyncGenerator[Batch, None]:
    """A door's stream under the deployment's deadlines: first output, silence in between, all of it."""
    times, target = deployment.times, deployment.target
    ends_at = time.monotonic() + times.total_s
    phase, limit = "first_token", times.first_token_s
    async with aclosing(stream):
        while True:
            left = ends_at - time.monotonic()
            phase, limit = ("answer", times.total_s) if left < limit else (phase, limit)
            deadline = asyncio.timeout(min(left, limit))
            try:
                async with deadline:
                    batch = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not deadline.expired():
                    raise
                raise failures.timeout(target, phase, limit) from None
            phase, limit = "idle", times.idle_s
            yield batch


async def _within(answer: Awaitable[T], deployment: Deployment) -> T:
    deadline = asyncio.timeout(deployment.times.total_s)
    try:
        async with deadline:
            return await answer
    except TimeoutError:
        if not deadline.expired():
            raise
        raise failures.timeout(deployment.target, "answer", deployment.times.total_s) from None


def _request_for(target: Target, request: ChatRequest, splice: Splice) -> ChatRequest:
    """The request of a leg: a continuing one carries the text so far as the assistant's, and has less left to say."""
    if isinstance(splice, Fresh) or not splice.prefill:
        return replace(request, messages=list(request.messages), params=dict(request.params))
    prefix: Json = {"role": "assistant", "content": splice.prefill}
    if target.provider in _PREFIX_FLAG:
        prefix["prefix"] = True
    params = dict(request.params)
    if "max_tokens" in params:
        params["max_tokens"] = max(1, params["max_tokens"] - tokens.count_text(target, splice.prefill))
    return replace(request, messages=[*request.messages, prefix], params=params)
