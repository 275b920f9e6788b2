"""The offline model as a LiteLLM custom provider: `offline/offline` works with every LiteLLM call of this process.

The gateway's own door (door.py) skips LiteLLM's wrappers; both answer by integration.models.offline.answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from litellm.llms.custom_llm import CustomLLM, CustomLLMError
from litellm.types.utils import Embedding, EmbeddingResponse, GenericStreamingChunk, ModelResponse, Usage

from integration.models.offline import answers, vectors
from integration.models.port import Json
from integration.models.runtime import litellm
from kit.errors import PlatformError


def register() -> None:
    """Make LiteLLM know the provider."""
    if any(item["provider"] == answers.NAME for item in litellm.custom_provider_map):
        return
    litellm.custom_provider_map.append({"provider": answers.NAME, "custom_handler": OfflineLLM()})
    litellm.utils.custom_llm_setup()


class OfflineLLM(CustomLLM):
    """LiteLLM's interface; its signatures are long, only these parameters matter here."""

    def completion(  # type: ignore[override]  # the base names twenty parameters one by one
        self, model: str, messages: list[Json], model_response: ModelResponse, optional_params: Json, **_: Any
    ) -> ModelResponse:
        """A whole answer."""
        return _whole(model, messages, optional_params, model_response)

    async def acompletion(  # type: ignore[override]
        self, model: str, messages: list[Json], model_response: ModelResponse, optional_params: Json, **_: Any
    ) -> ModelResponse:
        """A whole answer, at the pace asked for."""
        pace = answers.directives(messages)
        await asyncio.sleep(pace.first_delay_ms / 1000)
        return _whole(model, messages, optional_params, model_response)

    def streaming(  # type: ignore[override]
        self, model: str, messages: list[Json], optional_params: Json, **_: Any
    ) -> Iterator[GenericStreamingChunk]:
        """An answer word by word."""
        yield from _chunks(messages, optional_params)

    async def astreaming(  # type: ignore[override]
        self, model: str, messages: list[Json], optional_params: Json, **_: Any
    ) -> AsyncIterator[GenericStreamingChunk]:
        """An answer word by word, at the pace asked for."""
        pace = answers.directives(messages)
        await asyncio.sleep(pace.first_delay_ms / 1000)
        for chunk in _chunks(messages, optional_params):
            yield chunk
            await asyncio.sleep(pace.delay_ms / 1000)

    async def aembedding(  # type: ignore[override]
        self, model: str, input: list[str], model_response: EmbeddingResponse, optional_params: Json, **_: Any
    ) -> EmbeddingResponse:
        """Vectors."""
        try:
            values = await vectors.embed(input, optional_params.get("dimensions"))
        except PlatformError as error:
            raise CustomLLMError(400, error.message) from error  # type: ignore[no-untyped-call]
        used = sum(len(text.split()) for text in input)
        model_response.model = model
        model_response.data = [Embedding(embedding=v, index=i, object="embedding") for i, v in enumerate(values)]
        model_response.usage = Usage(prompt_tokens=used, completion_tokens=0, total_tokens=used)
        return model_response


def _whole(model: str, messages: list[Json], params: Json, response: ModelResponse) -> ModelResponse:
    reply = answers.reply(messages, params)
    message: Json = {"role": "assistant", "content": reply.text or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in reply.calls
        ]
    completion, _ = answers.completion_tokens([reply])
    prompt = answers.prompt_tokens(messages)
    body = {
        "model": model,
        "created": int(time.time()),
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }
    return ModelResponse(id=response.id, **body)


def _chunks(messages: list[Json], params: Json) -> Iterator[GenericStreamingChunk]:
    reply = answers.reply(messages, params)
    for piece in answers.pieces(reply.text):
        yield _chunk(text=piece)
    for slot, (call_id, name, arguments) in enumerate(reply.calls):
        yield _chunk(
            tool_use={
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
                "index": slot,
            }
        )
    completion, _ = answers.completion_tokens([reply])
    prompt = answers.prompt_tokens(messages)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    yield _chunk(is_finished=True, finish_reason=reply.finish, usage=usage)


def _chunk(**told: Any) -> GenericStreamingChunk:
    blank: Any = {"text": "", "is_finished": False, "finish_reason": "", "usage": None, "index": 0, "tool_use": None}
    return {**blank, **told}  # type: ignore[typeddict-item]
