"""What went wrong at a provider, as LiteLLM classifies it, in this platform's errors.

The provider's own message is kept (it tells the caller what to change), cleaned of addresses and of everything that
looks like a credential; for credentials that were refused nothing of it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from integration.models.port import Failure, Target
from integration.models.runtime import litellm
from kit.errors import PlatformError, Reason

_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_SECRET = re.compile(r"\b(?:sk|pk|rk|xai|gsk|hf)[-_][\w\-*.]{6,}|\bAIza[\w\-]{10,}|\bBearer\s+\S+", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?|wss?)://\S+")
_PREFIX = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception|Timeout)(?:: | - )\s*)+")
_CONNECTION = "Connection error"
_LITELLM_ADVICE = "This looks like a bug in LiteLLM"
# What OpenAI's wire says in `error.code`, whatever the sentence beside it is.
_CODES = {
    "context_length_exceeded": Reason.CONTEXT_LENGTH_EXCEEDED,
    "content_filter": Reason.CONTENT_FILTERED,
    "content_policy_violation": Reason.CONTENT_FILTERED,
}
_MAX_MESSAGE = 600


def from_litellm(error: BaseException, target: Target) -> Failure:
    """An exception that LiteLLM raised (or one of its HTTP client's), classified."""
    if isinstance(error, httpx.HTTPError) and not isinstance(error, httpx.HTTPStatusError):
        return unreachable(error, target)
    if isinstance(error, litellm.Timeout):
        return timeout(target, "answer", target.total_timeout_s)
    if isinstance(error, litellm.APIConnectionError) or _CONNECTION in str(getattr(error, "message", "")):
        return unreachable(error, target)
    for kind, make in _KINDS:
        if isinstance(error, kind):
            failure: Failure = make(error, target)
            return failure
    return _of_status(error, target)


def classified(status: int, body: str, headers: Mapping[str, str], target: Target, config: Any) -> Failure:
    """An HTTP error of a provider: its config object's error class, mapped by LiteLLM's exception mapping."""
    original = config.get_error_class(error_message=body, status_code=status, headers=dict(headers))
    # LiteLLM's mapping reads the error's text from the response, too
    original.response = httpx.Response(status, content=body.encode(), headers=dict(headers), request=original.request)
    try:
        mapped: BaseException = litellm.exception_type(
            model=target.model, original_exception=original, custom_llm_provider=target.provider
        )
    except Exception as raised:
        mapped = raised
    failure = from_litellm(mapped, target)
    failure.error.message = _cleaned(_provider_message(body), target) or failure.error.message
    failure.retry_after_s = _retry_after(headers) if failure.retryable else None
    if failure.error.reason is Reason.UPSTREAM_AUTHENTICATION:
        failure.error.message = _refused(target)
    elif failure.retryable and failure.error.reason is not Reason.UPSTREAM_RATE_LIMITED:
        failure.outcome = f"http_{status}"
    elif status == httpx.codes.BAD_REQUEST:
        failure.error.reason = _CODES.get(_provider_code(body), failure.error.reason)
    failure.error.args = (failure.error.message,)
    if failure.retry_after_s is not None:
        failure.error.retry_after_s = failure.retry_after_s
    return failure


def unreachable(error: BaseException, target: Target) -> Failure:
    """No connection, or one that broke."""
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return timeout(target, "connect", target.connect_timeout_s)
    if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
        return cut(target)
    message = f"The provider {target.provider} cannot be reached."
    return Failure(_platform(Reason.UPSTREAM_ERROR, message, target), retryable=True, outcome="connect_error")


def timeout(target: Target, phase: str, seconds: float) -> Failure:
    """The provider was too slow. `phase`: connect, first_token, idle, answer."""
    message = f"The provider {target.provider} did not answer in time ({phase.replace('_', ' ')}, {seconds:g} s)."
    error = _platform(Reason.UPSTREAM_TIMEOUT, message, target)
    error.metadata.update(timeout_s=f"{seconds:g}", phase=phase)
    return Failure(error, retryable=True, outcome=f"timeout_{phase}")


def cut(target: Target) -> Failure:
    """The answer ended before its end."""
    message = f"The provider {target.provider} broke off its answer."
    return Failure(_platform(Reason.UPSTREAM_INTERRUPTED, message, target), retryable=True, outcome="cut")


def malformed(target: Target) -> Failure:
    """The answer is not what the provider's wire allows."""
    message = f"The provider {target.provider} sent an answer that cannot be read."
    return Failure(_platform(Reason.UPSTREAM_ERROR, message, target), retryable=True, outcome="malformed")


def _platform(reason: Reason, message: str, target: Target) -> PlatformError:
    return PlatformError(reason, message, provider=target.provider, model=target.model)


def _context(error: BaseException, target: Target) -> Failure:
    message = _message(error, target) or "The prompt does not fit the model."
    return Failure(_platform(Reason.CONTEXT_LENGTH_EXCEEDED, message, target), retryable=False)


def _filtered(error: BaseException, target: Target) -> Failure:
    message = _message(error, target) or "The provider's content filter refused."
    return Failure(_platform(Reason.CONTENT_FILTERED, message, target), retryable=False)


def _refused(target: Target) -> str:
    return f"The provider {target.provider} refused the credentials configured for this model."


def _authentication(error: BaseException, target: Target) -> Failure:
    del error  # its text tells (parts of) the key
    return Failure(_platform(Reason.UPSTREAM_AUTHENTICATION, _refused(target), target), retryable=False)


def _rate(error: BaseException, target: Target) -> Failure:
    message = _message(error, target) or f"The provider {target.provider} limits its rate."
    headers = getattr(error, "litellm_response_headers", None) or _headers(error)
    after = _retry_after(headers)
    failure = Failure(_platform(Reason.UPSTREAM_RATE_LIMITED, message, target), retryable=True, retry_after_s=after)
    failure.error.retry_after_s = after
    return failure


def _headers(error: BaseException) -> Mapping[str, str]:
    return getattr(getattr(error, "response", None), "headers", None) or {}


def _unsupported(error: BaseException, target: Target) -> Failure:
    return Failure(unsupported_params(str(error), target), retryable=False)


_KINDS: tuple[tuple[Any, Any], ...] = (
    (litellm.ContextWindowExceededError, _context),
    (litellm.ContentPolicyViolationError, _filtered),
    (litellm.UnsupportedParamsError, _unsupported),
    (litellm.AuthenticationError, _authentication),
    (litellm.PermissionDeniedError, _authentication),
    (litellm.RateLimitError, _rate),
)


def _of_status(error: BaseException, target: Target) -> Failure:
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else 500
    message = _message(error, target)
    if status in (401, 402, 403):
        return _authentication(error, target)
    if status in _RETRYABLE_STATUS or status >= 500:
        text = message or f"The provider {target.provider} failed."
        failure = _platform(Reason.UPSTREAM_ERROR, text, target)
        failure.metadata["status"] = str(status)
        return Failure(failure, retryable=True, outcome=f"http_{status}")
    text = message or f"The provider {target.provider} refused the request."
    return Failure(_platform(Reason.UPSTREAM_INVALID_REQUEST, text, target), retryable=False)


_FIELDS = re.compile(r"\[((?:'\w+'(?:, )?)+)\]")
# "O-series models don't support temperature=0.3", "Setting dimensions is not supported"
_FIELD_VALUE = re.compile(r"\b(?:support|parameters?:?|Setting)\s+'?(\w+)[='\s]")


def unsupported_params(text: str, target: Target) -> PlatformError:
    """LiteLLM's sentence about parameters that a provider does not support; the first one is named as the field."""
    listed = _FIELDS.search(text)
    fields = re.findall(r"\w+", listed.group(1)) if listed else _FIELD_VALUE.findall(text)[:1]
    names = ", ".join(fields) or "a parameter of the request"
    message = f"{target.name} does not support {names}."
    field = fields[0] if fields else ""
    return PlatformError(
        Reason.UNSUPPORTED_FEATURE, message, field=field, feature=field, provider=target.provider, model=target.model
    )


def _message(error: BaseException, target: Target) -> str:
    text = getattr(error, "message", None) or str(error)
    stripped = _PREFIX.sub("", text)
    return _cleaned(_provider_message(stripped) or stripped, target)


def _provider_error(body: str) -> Any:
    """What a provider's JSON error body says, wherever it begins in the text; None if there is none."""
    start = body.find("{")
    if start < 0:
        return None
    try:
        value = orjson.loads(body[start : body.rfind("}") + 1])
    except orjson.JSONDecodeError:
        return None
    return value.get("error", value)


def _provider_message(body: str) -> str:
    """The sentence in it; "" if there is none."""
    error = _provider_error(body)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _provider_code(body: str) -> str:
    """Its code; "" if there is none."""
    error = _provider_error(body)
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def _cleaned(text: str, target: Target) -> str:
    text = text.split(_LITELLM_ADVICE)[0]
    if target.api_key:
        text = text.replace(target.api_key, "[key]")
    text = _URL.sub("[url]", _SECRET.sub("[key]", text))
    return text.strip()[:_MAX_MESSAGE]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None
