"""A call made ready for providers: messages and parameters, within the limits of tenant and model."""

from __future__ import annotations

from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelMode
from integration.models import tokens
from integration.models.deployments import Deployment, context_window, max_output
from integration.models.messages import to_messages
from integration.models.options import split_extra, to_params
from integration.models.port import ChatRequest
from kit.errors import PlatformError, Reason
from kit.settings import TenantSettings


def chat_request(call: ModelCall) -> ChatRequest:
    """The request that every leg begins with. INVALID_ARGUMENT, UNSUPPORTED_FEATURE naming the field."""
    if not call.messages:
        raise PlatformError.invalid("messages", "At least one message is needed.")
    params = to_params(call)
    translated, extra = split_extra(call)
    responses = call.mode == ModelMode.MODEL_MODE_RESPONSES
    return ChatRequest(to_messages(call.messages), {**params, **translated}, extra, responses)


def limited(request: ChatRequest, settings: TenantSettings) -> ChatRequest:
    """The request with the tenant's ceiling on the answer's length: one that asks for more is cut down to it."""
    ceiling = settings.limits.max_output_tokens
    if ceiling is not None:
        request.params["max_tokens"] = min(request.params.get("max_tokens", ceiling), ceiling)
    return request


async def check_fits(request: ChatRequest, settings: TenantSettings, deployment: Deployment) -> None:
    """CONTEXT_LENGTH_EXCEEDED when the prompt is known not to fit the tenant's limit or the model.

    Nothing is counted unless the prompt's size in bytes leaves a doubt.
    """
    window = context_window(deployment)
    limit = min((n for n in (settings.limits.max_prompt_tokens, window or None) if n is not None), default=None)
    tools = request.params.get("tools")
    if limit is None or tokens.upper_bound(request.messages, tools) <= limit:
        return
    target = deployment.target
    size = tokens.upper_bound(request.messages, None)
    count = await tokens.in_time(size, tokens.count_prompt, target, request.messages, tools)
    # a count with another model's tokenizer is no proof: only what is far over is refused
    certain = limit if tokens.exact(target) or limit == settings.limits.max_prompt_tokens else limit * 2
    if count > certain:
        message = f"The prompt has {count} tokens; at most {limit} fit."
        raise PlatformError(
            Reason.CONTEXT_LENGTH_EXCEEDED, message, context_window=str(limit), prompt_tokens=str(count)
        )


def check_output(request: ChatRequest, deployment: Deployment) -> ChatRequest:
    """The request with max_tokens within what the model can say at once."""
    most = max_output(deployment)
    asked = request.params.get("max_tokens")
    if most and deployment.entry.max_output_tokens and asked and asked > most:
        raise PlatformError.invalid("max_tokens", f'"{deployment.alias}" answers in at most {most} tokens.')
    return request
