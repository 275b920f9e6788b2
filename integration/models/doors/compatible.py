"""The fast door, for providers with OpenAI's wire.

LiteLLM stays the gateway: its provider config object maps and checks parameters, builds headers, URL and body and
names the error class; its HTTP client makes the request. Only the answer's bytes are read here
(docs/decisions/0005-doors-to-litellm.md), because LiteLLM's stream wrapper costs a millisecond a chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import orjson
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
from litellm.types.utils import LlmProviders
from litellm.utils import ProviderConfigManager, get_optional_params, get_optional_params_embeddings

from integration.models import failures
from integration.models.doors import whole
from integration.models.doors.frames import ErrorFrame, FrameReader, MalformedStream
from integration.models.port import Answer, Batch, ChatRequest, Failure, Json, Target, Vectors
from integration.models.runtime import litellm

# A config that answers these in its own way does not have OpenAI's wire, whatever its list says.
_WIRE = ("transform_response", "get_model_response_iterator", "sign_request", "should_fake_stream")
# Log in by a device code on the first question about them, over the network.
_NOT_HERE = frozenset({"github_copilot", "chatgpt"})
_DRAIN_S = 0.02
_MAX_BODY = 64 * 1024 * 1024


def config_of(provider: str, model: str) -> Any | None:
    """The provider's config object if its wire is OpenAI's, else None."""
    known = provider == "openai" or provider in litellm.openai_compatible_providers
    if not known or provider in _NOT_HERE or model.startswith("responses/"):
        return None
    try:
        config = ProviderConfigManager.get_provider_chat_config(model, LlmProviders(provider))
    except ValueError:
        return None
    if not isinstance(config, OpenAIGPTConfig):
        return None
    own = [name for name in _WIRE if getattr(type(config), name) is not getattr(OpenAIGPTConfig, name)]
    return None if own else config


class CompatibleDoor:
    """Providers whose wire is OpenAI's."""

    def __init__(self) -> None:
        # Our own deadlines rule: no read timeout here.
        self._http = AsyncHTTPHandler(timeout=httpx.Timeout(None, connect=5.0))
        self._configs: dict[tuple[str, str], Any] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._http.client.aclose()

    async def stream(self, target: Target, request: ChatRequest) -> AsyncGenerator[Batch, None]:
        """See Door."""
        config = self._config(target)
        reader = FrameReader()
        try:
            async with (
                self._sent(target, config, request, stream=True) as response,
                aclosing(_bytes_of(response)) as source,
            ):
                async for data in source:
                    deltas = reader.feed(data)
                    if reader.done:
                        await _drain(source)
                        yield Batch(deltas, reader.end())
                        return
                    if deltas:
                        yield Batch(deltas)
            deltas = reader.flush()
        except ErrorFrame as frame:
            raise _error_frame(frame, target, config) from None
        except MalformedStream:
            raise failures.malformed(target) from None
        except httpx.HTTPError:
            raise failures.cut(target) from None
        if not reader.ended:
            raise failures.cut(target)
        yield Batch(deltas, reader.end())

    async def call(self, target: Target, request: ChatRequest) -> Answer:
        """See Door."""
        config = self._config(target)
        async with self._sent(target, config, request, stream=False) as response:
            body = await _read(response, target)
        if body.get("error") and not body.get("choices"):
            raise _error_frame(ErrorFrame(body["error"]), target, config)
        return whole.answer(body)

    async def embed(self, target: Target, texts: Sequence[str], params: Json) -> Vectors:
        """See Door."""
        config = self._config(target)
        mapped = mapped_embedding_params(target, params)
        extra = mapped.pop("extra_body", None) or {}
        body = {"model": target.model, "input": list(texts), **mapped, **extra, "encoding_format": "float"}
        url = f"{(_api_base(target) or '').rstrip('/')}/embeddings"
        async with self._post(target, config, url, self._headers(target, config, [], {}), body) as response:
            answer = await _read(response, target)
        found = whole.vectors(answer)
        if len(found.values) != len(texts):
            raise failures.malformed(target)
        return found

    def _config(self, target: Target) -> Any:
        key = (target.provider, target.model)
        config = self._configs.get(key)
        if config is None:
            config = self._configs[key] = config_of(*key)
        return config

    @asynccontextmanager
    async def _sent(
        self, target: Target, config: Any, request: ChatRequest, *, stream: bool
    ) -> AsyncIterator[httpx.Response]:
        """The provider's good response; leaving it closes it."""
        params = mapped_params(target, request.params)
        extra_body = params.pop("extra_body", None) or {}
        params.pop("stream", None)
        facts = {"custom_llm_provider": target.provider, "api_base": _api_base(target)}
        headers = self._headers(target, config, request.messages, params)
        url = config.get_complete_url(facts["api_base"], target.api_key, target.model, params, facts, stream)
        body = await config.async_transform_request(target.model, request.messages, params, facts, headers)
        body.update(extra_body)
        for name, value in request.extra.items():
            body.setdefault(name, value)
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        async with self._post(target, config, url, headers, body) as response:
            yield response

    @staticmethod
    def _headers(target: Target, config: Any, messages: list[Json], params: Json) -> dict[str, str]:
        told = {**(target.options.get("extra_headers") or {})}
        if target.options.get("organization"):
            told.setdefault("OpenAI-Organization", target.options["organization"])
        made: dict[str, str] = config.validate_environment(
            headers=told,
            model=target.model,
            messages=messages,
            optional_params=params,
            litellm_params={},
            api_key=_api_key(target),
            api_base=_api_base(target),
        )
        return made

    @asynccontextmanager
    async def _post(
        self, target: Target, config: Any, url: str, headers: dict[str, str], body: Json
    ) -> AsyncIterator[httpx.Response]:
        # The handler's `post` repeats a request whose connection broke, and closes a repeated stream under its
        # reader: its client is used directly.
        client = self._http.client
        timeout = httpx.Timeout(None, connect=target.connect_timeout_s, pool=target.connect_timeout_s)
        try:
            sent = client.build_request("POST", url, headers=headers, content=orjson.dumps(body), timeout=timeout)
            response = await client.send(sent, stream=True)
        except httpx.HTTPError as error:
            raise failures.from_litellm(error, target) from None
        try:
            if response.status_code >= 300:
                text = (await _bytes(response, target)).decode(errors="replace")
                raise failures.classified(response.status_code, text, response.headers, target, config)
            yield response
        finally:
            await response.aclose()


def mapped_params(target: Target, params: Json) -> Json:
    """Parameters as the provider names them. A Failure with UNSUPPORTED_FEATURE for one that it does not have."""
    # "user" is silently left out for models that LiteLLM's list does not know, unless it is allowed by name.
    allowed = ["user", *(target.options.get("allowed_openai_params") or ())]
    try:
        mapped: Json = get_optional_params(
            model=target.model, custom_llm_provider=target.provider, allowed_openai_params=allowed, **params
        )
    except litellm.UnsupportedParamsError as error:
        raise Failure(failures.unsupported_params(str(error), target), retryable=False) from None
    except (litellm.BadRequestError, ValueError, TypeError) as error:
        raise failures.from_litellm(error, target) from None
    mapped.pop("max_retries", None)
    return mapped


def mapped_embedding_params(target: Target, params: Json) -> Json:
    """The same for embeddings."""
    allowed = [*(target.options.get("allowed_openai_params") or ())]
    if target.model not in litellm.model_cost:
        # a server's own name: the server knows what it can do
        allowed.append("dimensions")
    try:
        mapped: Json = get_optional_params_embeddings(
            model=target.model,
            custom_llm_provider=target.provider,
            allowed_openai_params=allowed,
            **params,
        )
    except litellm.UnsupportedParamsError as error:
        raise Failure(failures.unsupported_params(str(error), target), retryable=False) from None
    return mapped


def _api_base(target: Target) -> str | None:
    if target.api_base or target.provider != "openai":
        return target.api_base
    return OpenAIGPTConfig.get_api_base()


def _api_key(target: Target) -> str | None:
    return target.api_key or (OpenAIGPTConfig.get_api_key() if target.provider == "openai" else None)


async def _bytes_of(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body's bytes as they come, decompressed."""
    async for data in response.aiter_bytes():
        yield data


async def _drain(source: AsyncGenerator[bytes, None]) -> None:
    """Read the end of the body, which lets the connection serve again; not worth waiting long for."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in source:
                pass
    except (TimeoutError, httpx.HTTPError):
        return


async def _read(response: httpx.Response, target: Target) -> Json:
    try:
        body = orjson.loads(await _bytes(response, target))
    except orjson.JSONDecodeError:
        raise failures.malformed(target) from None
    if not isinstance(body, dict):
        raise failures.malformed(target)
    return body


async def _bytes(response: httpx.Response, target: Target) -> bytes:
    parts, size = [], 0
    try:
        async for part in response.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > _MAX_BODY:
                raise failures.malformed(target)
    except httpx.HTTPError:
        raise failures.cut(target) from None
    return b"".join(parts)


def _error_frame(frame: ErrorFrame, target: Target, config: Any) -> Failure:
    code = frame.error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return failures.classified(status, orjson.dumps({"error": frame.error}).decode(), {}, target, config)
