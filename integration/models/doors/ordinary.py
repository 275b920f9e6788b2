"""The ordinary door: LiteLLM's own SDK calls, for every provider whose wire is not OpenAI's.

A chunk costs about a millisecond of CPU here; everything that LiteLLM translates is translated.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from integration.models import failures
from integration.models.doors.frames import FINISH, Merger, told
from integration.models.doors.whole import answer, vectors
from integration.models.options import unsupported
from integration.models.port import Answer, Batch, ChatRequest, End, Failure, Json, Target, Told, Vectors
from integration.models.runtime import litellm


class OrdinaryDoor:
    """Every provider that LiteLLM knows."""

    async def close(self) -> None:
        """LiteLLM's shared clients are closed with the process."""
        await litellm.close_litellm_async_clients()

    async def stream(self, target: Target, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """See Door."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await self._completion(target, request, options)
        state = _Stream()
        try:
            try:
                async for chunk in stream:
                    deltas = state.take(chunk)
                    if deltas.deltas:
                        yield deltas
            except Exception as error:
                failure = failures.from_litellm(_original(error), target)
                raise (failures.cut(target) if failure.outcome == "connect_error" else failure) from None
            # LiteLLM takes an early end of the stream for its end, and makes up a finish reason.
            if stream.received_finish_reason is None and stream.intermittent_finish_reason is None:
                raise failures.cut(target)
            yield Batch([], state.end())
        finally:
            await stream.aclose()

    async def call(self, target: Target, request: ChatRequest) -> Answer:
        """See Door."""
        response = await self._completion(target, request, {})
        return answer(response.model_dump(exclude_none=True))

    async def embed(self, target: Target, texts: Sequence[str], params: Json) -> Vectors:
        """See Door."""
        try:
            response = await litellm.aembedding(input=list(texts), **_credentials(target), **params)
        except Exception as error:
            raise failures.from_litellm(_original(error), target) from None
        found = vectors(response.model_dump())
        if len(found.values) != len(texts):
            raise failures.malformed(target)
        return found

    @staticmethod
    async def _completion(target: Target, request: ChatRequest, options: Json) -> Any:
        prefix = "responses/" if request.responses else ""
        # LiteLLM would look for MCP servers of its own among the tools, with a library that is not here
        options = {**options, **_extra(target, request.extra), "_skip_mcp_handler": True}
        try:
            return await litellm.acompletion(
                messages=request.messages, **_credentials(target, prefix), **request.params, **options
            )
        except Exception as error:
            raise failures.from_litellm(_original(error), target) from None


def _credentials(target: Target, prefix: str = "") -> Json:
    # Full name and no custom_llm_provider: LiteLLM routes "openai/responses/..." by its name alone.
    name = f"{target.provider}/{prefix}{target.model}"
    given = {"api_base": target.api_base, "api_key": target.api_key, **target.options}
    given = {key: value for key, value in given.items() if value is not None}
    return {"model": name, "timeout": target.total_timeout_s, "max_retries": 0, **given}


def _extra(target: Target, extra: Json) -> Json:
    if not extra:
        return {}
    if target.provider != "openai" and target.provider not in litellm.openai_compatible_providers:
        raise Failure(unsupported(next(iter(extra)), target.provider, target.model), retryable=False)
    return {"extra_body": extra}


def _original(error: BaseException) -> BaseException:
    """What LiteLLM wrapped for its router."""
    return getattr(error, "original_exception", None) or error


class _Stream:
    """Folds LiteLLM's chunk objects."""

    def __init__(self) -> None:
        self._merger = Merger()
        self._finish: dict[int, str] = {}
        self._seen: set[int] = set()
        self._usage: Told | None = None
        self._model = ""
        self._fingerprint = ""

    def take(self, chunk: Any) -> Batch:
        """What a chunk adds."""
        self._model = chunk.model or self._model
        self._fingerprint = getattr(chunk, "system_fingerprint", None) or self._fingerprint
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._usage = told(usage.model_dump(exclude_none=True))
        for choice in chunk.choices:
            # LiteLLM ends a stream of several choices with one finish reason
            self._seen.add(choice.index)
            if choice.finish_reason:
                self._finish[choice.index] = FINISH.get(choice.finish_reason, choice.finish_reason)
            self._merger.add(choice.index, _delta(choice.delta), _logprobs(choice))
        return Batch(self._merger.take())

    def end(self) -> End:
        """How it ended."""
        common = next(iter(self._finish.values()), "stop")
        finish = {index: self._finish.get(index, common) for index in sorted(self._seen or {0})}
        return End(finish, self._usage, self._model, self._fingerprint)


def _delta(delta: Any) -> Json:
    calls = [
        {
            "index": call.index,
            "id": call.id,
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in delta.tool_calls or ()
    ]
    return {
        "content": delta.content,
        "reasoning_content": getattr(delta, "reasoning_content", None),
        "refusal": getattr(delta, "refusal", None),
        "tool_calls": calls,
    }


def _logprobs(choice: Any) -> Json | None:
    logprobs = getattr(choice, "logprobs", None)
    if logprobs is None:
        return None
    return dict(logprobs) if isinstance(logprobs, dict) else dict(logprobs.model_dump())
