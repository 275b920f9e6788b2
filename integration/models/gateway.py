"""The gateway: every model call of the platform goes through here (PR-001)."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.trace import Span

from fastchat.common.v1.usage_pb2 import LegUsage
from fastchat.integration.v1.model_service_pb2 import (
    CountTokensRequest,
    CountTokensResponse,
    Model,
    ModelCall,
    ModelMode,
    ModelResult,
    StreamModelResponse,
)
from integration.config import IntegrationConfig
from integration.models import observed, prompts, results, tokens
from integration.models.accounting import Prices, total
from integration.models.aliases import Aliases
from integration.models.chain import Chain, Switched
from integration.models.deployments import Deployment
from integration.models.governance import Governance, Permit
from integration.models.messages import to_messages, to_tools
from integration.models.meter import Meter
from integration.models.port import Answer, ChatRequest, End, Json, Vectors
from integration.models.splice import Delivered
from kit.errors import PlatformError, Reason

_MODE_NAMES = {
    ModelMode.MODEL_MODE_CHAT: "chat",
    ModelMode.MODEL_MODE_RESPONSES: "responses",
    ModelMode.MODEL_MODE_EMBEDDING: "embedding",
}
_MAX_INPUTS = 2048


@dataclass
class _Running:
    """One call while it runs."""

    call: ModelCall
    permit: Permit
    chain: Chain
    span: Span
    started: float = field(default_factory=time.monotonic)
    records: list[LegUsage] = field(default_factory=list)
    output: str = ""

    @property
    def latency_s(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self.started


class Gateway:
    """Calls models for tenants. One per process."""

    def __init__(self, aliases: Aliases, governance: Governance, config: IntegrationConfig) -> None:
        self._aliases = aliases
        self._governance = governance
        self._config = config
        self._prices = Prices()

    async def call(self, call: ModelCall) -> ModelResult:
        """The whole answer of a chat, or embeddings."""
        if call.mode == ModelMode.MODEL_MODE_EMBEDDING:
            return await self._embed(call)
        request = prompts.chat_request(call)
        with observed.span("chat", call.model_alias) as span:
            running = await self._begin(call, span)
            request = await self._ready(running, request)
            return await self._answer(running, request)

    async def stream(self, call: ModelCall, usage_every: int = 0) -> AsyncGenerator[StreamModelResponse, None]:
        """The answer as it comes, then the result. Closing the generator closes the upstream request.

        `usage_every`: tell usage so far about every that many completion tokens; 0: only in the result.
        """
        if call.mode == ModelMode.MODEL_MODE_EMBEDDING:
            raise PlatformError.invalid("call.mode", "Embeddings cannot be streamed.")
        request = prompts.chat_request(call)
        with observed.span("chat", call.model_alias) as span:
            running = await self._begin(call, span)
            request = await self._ready(running, request)
            async with aclosing(self._pieces(running, request, usage_every)) as pieces:
                async for piece in pieces:
                    yield piece

    def models(self, tenant_id: str) -> list[Model]:
        """Aliases that the caller may use in the tenant, in order of name; entries that cannot be used are left out."""
        self._governance.settings(tenant_id)
        found = []
        for name in self._aliases.names(tenant_id):
            if self._governance.allows(tenant_id, name):
                deployment = self._usable(tenant_id, name)
                if deployment is not None:
                    found.append(results.model(deployment))
        return found

    async def count(self, request: CountTokensRequest) -> CountTokensResponse:
        """Tokens of a prompt, offline."""
        self._governance.settings(request.tenant_id)
        target = self._aliases.get(request.tenant_id, request.model_alias).target
        messages, tools = to_messages(request.messages), to_tools(request.tools) or None
        counted = 0
        if messages or tools:
            size = tokens.upper_bound(messages, tools)
            counted = await tokens.in_time(size, tokens.count_prompt, target, messages, tools)
        for text in request.input:
            counted += await tokens.in_time(len(text), tokens.count_text, target, text)
        return CountTokensResponse(tokens=counted, exact=tokens.exact(target))

    async def _begin(self, call: ModelCall, span: Span) -> _Running:
        first = self._aliases.get(call.tenant_id, call.model_alias)
        permit = await self._governance.permit(call.tenant_id, call.model_alias, tools=bool(call.tools))
        mode = _mode_name(call)
        if not _serves(first, mode):
            message = f'The model "{first.alias}" does not serve {mode}.'
            raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, field="model", feature=mode)
        chain = Chain(self._candidates(call, first, mode), self._config, Delivered(call.continue_from))
        chain.on_switch = observed.switched
        return _Running(call, permit, chain, span, records=list(call.earlier_legs))

    def _candidates(self, call: ModelCall, first: Deployment, mode: str) -> list[Deployment]:
        """The alias and those of its fallbacks that exist, serve the mode and are allowed to the caller."""
        found = [first]
        for alias in first.entry.fallbacks:
            if self._governance.allows(call.tenant_id, alias):
                deployment = self._usable(call.tenant_id, alias)
                if deployment is not None and _serves(deployment, mode):
                    found.append(deployment)
        return found

    def _usable(self, tenant_id: str, alias: str) -> Deployment | None:
        try:
            return self._aliases.get(tenant_id, alias)
        except PlatformError as error:
            observed.log.warning("model.entry_unusable", reason=error.reason.name)
            return None

    async def _ready(self, running: _Running, request: ChatRequest) -> ChatRequest:
        first, settings = running.chain.candidates[0], running.permit.settings
        await prompts.check_fits(request, settings, first)
        return prompts.check_output(prompts.limited(request, settings), first)

    async def _answer(self, running: _Running, request: ChatRequest) -> ModelResult:
        chain = running.chain

        async def ask(deployment: Deployment) -> Answer:
            return await deployment.door.call(deployment.target, _copy(request))

        async with self._settled(running):
            answer = await chain.run(ask, request.messages, request.params.get("tools"))
            chain.took(answer.end)
            running.output = "\n".join(choice.text for choice in answer.choices)
        return results.of_answer(answer, _answered(chain), running.records, running.latency_s)

    async def _pieces(
        self, running: _Running, request: ChatRequest, usage_every: int
    ) -> AsyncGenerator[StreamModelResponse, None]:
        chain = running.chain
        meter = Meter(usage_every, running.call.earlier_legs)
        async with self._settled(running), aclosing(chain.stream(request)) as stream:
            async for news in stream:
                yield results.status(news) if isinstance(news, Switched) else results.tokens(news)
                if (reading := meter.reading(chain.legs)) is not None:
                    yield StreamModelResponse(usage=reading)
        if chain.end is not None:
            result = results.of_end(chain.end, _answered(chain), running.records, running.latency_s)
            yield StreamModelResponse(result=result)

    async def _embed(self, call: ModelCall) -> ModelResult:
        if not 1 <= len(call.input) <= _MAX_INPUTS:
            raise PlatformError.invalid("input", f"Between 1 and {_MAX_INPUTS} texts are needed.")
        params: Json = {}
        if call.options.HasField("dimensions"):
            params["dimensions"] = call.options.dimensions
        if call.options.user:
            params["user"] = call.options.user

        async def ask(deployment: Deployment) -> Vectors:
            return await deployment.door.embed(deployment.target, call.input, params)

        with observed.span("embeddings", call.model_alias) as span:
            running = await self._begin(call, span)
            chain = running.chain
            prompt: list[Json] = [{"role": "user", "content": "\n".join(call.input)}]
            await prompts.check_fits(ChatRequest(prompt, {}), running.permit.settings, chain.candidates[0])
            async with self._settled(running):
                vectors = await chain.run(ask, prompt, None)
                chain.took(End({0: "stop"}, vectors.usage, vectors.model))
            return results.of_vectors(vectors, _answered(chain), running.records, running.latency_s)

    @asynccontextmanager
    async def _settled(self, running: _Running) -> AsyncIterator[None]:
        """Settles a call when its block ends, however it ends."""
        outcome = "CANCELLED"
        try:
            yield
            outcome = "ok"
        except PlatformError as error:
            outcome = error.reason.name
            raise
        except Exception:
            outcome = Reason.INTERNAL.name
            raise
        finally:
            await self._settle(running, outcome)

    async def _settle(self, running: _Running, outcome: str) -> None:
        """Count and record what a call spent, a cancelled one too."""
        for leg in running.chain.legs:
            record = leg.record(self._prices)
            running.records.append(record)
            observed.counted(running.call.tenant_id, leg, record)
        observed.told(running.span, running.records)
        output = running.output or running.chain.delivered.everything
        await self._governance.record(
            running.permit,
            running.call,
            output,
            total(running.records),
            outcome=outcome,
            latency_ms=round(running.latency_s * 1000),
            models=[record.model_alias for record in running.records],
        )


def _mode_name(call: ModelCall) -> str:
    name = _MODE_NAMES.get(call.mode)
    if name is None:
        raise PlatformError.invalid("call.mode", "The mode is missing.")
    return name


def _serves(deployment: Deployment, mode: str) -> bool:
    """A responses alias serves chats, too: LiteLLM translates."""
    modes = deployment.entry.modes
    return mode in modes if mode == "embedding" else bool(modes & {"chat", "responses"})


def _copy(request: ChatRequest) -> ChatRequest:
    return ChatRequest(list(request.messages), dict(request.params), request.extra, request.responses)


def _answered(chain: Chain) -> Deployment:
    if chain.answered_by is None:
        raise PlatformError(Reason.INTERNAL, "No model answered.")
    return chain.answered_by
