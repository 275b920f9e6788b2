"""The error catalogue as data: what each reason is in gRPC, in HTTP and in OpenAI's error object."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from grpc import StatusCode


class Reason(IntEnum):
    """`fastchat.common.v1.ErrorReason` without its prefix (tested equal); what each means is told there."""

    INVALID_ARGUMENT = 1
    MALFORMED_REQUEST = 2
    PAYLOAD_TOO_LARGE = 3
    UNSUPPORTED_FEATURE = 4
    MISSING_CREDENTIALS = 5
    INVALID_API_KEY = 6
    EXPIRED_CREDENTIALS = 7
    MISSING_SCOPE = 8
    POLICY_DENIED = 9
    MODEL_POLICY_DENIED = 10
    NOT_FOUND = 11
    THREAD_NOT_FOUND = 12
    MODEL_NOT_FOUND = 13
    RUN_NOT_FOUND = 14
    ALREADY_EXISTS = 15
    ETAG_MISMATCH = 16
    THREAD_BUSY = 17
    NOT_CANCELLABLE = 18
    CURSOR_EXPIRED = 19
    CURSOR_AHEAD = 20
    RATE_LIMITED = 21
    BUDGET_EXCEEDED = 22
    OVERLOADED = 23
    DRAINING = 24
    DEPENDENCY_UNAVAILABLE = 25
    CIRCUIT_OPEN = 26
    UPSTREAM_ERROR = 27
    UPSTREAM_INVALID_REQUEST = 28
    UPSTREAM_AUTHENTICATION = 29
    UPSTREAM_RATE_LIMITED = 30
    UPSTREAM_INTERRUPTED = 31
    UPSTREAM_TIMEOUT = 32
    CONTEXT_LENGTH_EXCEEDED = 33
    CONTENT_FILTERED = 34
    DEADLINE_EXCEEDED = 35
    CANCELLED = 36
    RUN_INTERRUPTED = 37
    SETTINGS_STALE = 38
    STORAGE_UNAVAILABLE = 39
    NOT_IMPLEMENTED = 40
    LOOP_DETECTED = 41
    INTERNAL = 42
    METHOD_NOT_ALLOWED = 43
    CONFLICT = 44
    FENCED = 45


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One reason in every protocol. `retryable`: the same request may succeed later without a change to it."""

    grpc_code: StatusCode
    http_status: int
    openai_type: str
    openai_code: str
    retryable: bool = False


_REQUEST = "invalid_request_error"
_PERMISSION = "permission_error"
_LIMIT = "rate_limit_error"
_SERVER = "server_error"

TABLE: Mapping[Reason, ErrorRow] = MappingProxyType(
    {
        Reason.INVALID_ARGUMENT: ErrorRow(StatusCode.INVALID_ARGUMENT, 400, _REQUEST, "invalid_value"),
        Reason.MALFORMED_REQUEST: ErrorRow(StatusCode.INVALID_ARGUMENT, 400, _REQUEST, "malformed_request"),
        Reason.PAYLOAD_TOO_LARGE: ErrorRow(StatusCode.INVALID_ARGUMENT, 413, _REQUEST, "payload_too_large"),
        Reason.UNSUPPORTED_FEATURE: ErrorRow(StatusCode.INVALID_ARGUMENT, 400, _REQUEST, "unsupported_feature"),
        Reason.MISSING_CREDENTIALS: ErrorRow(StatusCode.UNAUTHENTICATED, 401, _REQUEST, "missing_credentials"),
        Reason.INVALID_API_KEY: ErrorRow(StatusCode.UNAUTHENTICATED, 401, _REQUEST, "invalid_api_key"),
        Reason.EXPIRED_CREDENTIALS: ErrorRow(StatusCode.UNAUTHENTICATED, 401, _REQUEST, "expired_credentials"),
        Reason.MISSING_SCOPE: ErrorRow(StatusCode.PERMISSION_DENIED, 403, _PERMISSION, "missing_scope"),
        Reason.POLICY_DENIED: ErrorRow(StatusCode.PERMISSION_DENIED, 403, _PERMISSION, "policy_denied"),
        Reason.MODEL_POLICY_DENIED: ErrorRow(StatusCode.PERMISSION_DENIED, 403, _PERMISSION, "model_policy_denied"),
        Reason.NOT_FOUND: ErrorRow(StatusCode.NOT_FOUND, 404, _REQUEST, "not_found"),
        Reason.THREAD_NOT_FOUND: ErrorRow(StatusCode.NOT_FOUND, 404, _REQUEST, "thread_not_found"),
        Reason.MODEL_NOT_FOUND: ErrorRow(StatusCode.NOT_FOUND, 404, _REQUEST, "model_not_found"),
        Reason.RUN_NOT_FOUND: ErrorRow(StatusCode.NOT_FOUND, 404, _REQUEST, "run_not_found"),
        Reason.ALREADY_EXISTS: ErrorRow(StatusCode.ALREADY_EXISTS, 409, _REQUEST, "already_exists"),
        Reason.ETAG_MISMATCH: ErrorRow(StatusCode.ABORTED, 412, _REQUEST, "etag_mismatch"),
        Reason.THREAD_BUSY: ErrorRow(StatusCode.FAILED_PRECONDITION, 409, _REQUEST, "thread_busy", retryable=True),
        Reason.NOT_CANCELLABLE: ErrorRow(StatusCode.FAILED_PRECONDITION, 400, _REQUEST, "not_cancellable"),
        Reason.CURSOR_EXPIRED: ErrorRow(StatusCode.OUT_OF_RANGE, 410, _REQUEST, "cursor_expired"),
        Reason.CURSOR_AHEAD: ErrorRow(StatusCode.OUT_OF_RANGE, 409, _REQUEST, "cursor_ahead"),
        Reason.RATE_LIMITED: ErrorRow(
            StatusCode.RESOURCE_EXHAUSTED, 429, _LIMIT, "rate_limit_exceeded", retryable=True
        ),
        Reason.BUDGET_EXCEEDED: ErrorRow(
            StatusCode.RESOURCE_EXHAUSTED, 429, "insufficient_quota", "insufficient_quota"
        ),
        Reason.OVERLOADED: ErrorRow(StatusCode.UNAVAILABLE, 503, _SERVER, "overloaded", retryable=True),
        Reason.DRAINING: ErrorRow(StatusCode.UNAVAILABLE, 503, _SERVER, "draining", retryable=True),
        Reason.DEPENDENCY_UNAVAILABLE: ErrorRow(
            StatusCode.UNAVAILABLE, 503, _SERVER, "dependency_unavailable", retryable=True
        ),
        Reason.CIRCUIT_OPEN: ErrorRow(StatusCode.UNAVAILABLE, 503, _SERVER, "circuit_open", retryable=True),
        Reason.UPSTREAM_ERROR: ErrorRow(StatusCode.UNAVAILABLE, 502, _SERVER, "upstream_error", retryable=True),
        Reason.UPSTREAM_INVALID_REQUEST: ErrorRow(
            StatusCode.INVALID_ARGUMENT, 400, _REQUEST, "upstream_invalid_request"
        ),
        Reason.UPSTREAM_AUTHENTICATION: ErrorRow(
            StatusCode.FAILED_PRECONDITION, 502, _SERVER, "upstream_authentication"
        ),
        Reason.UPSTREAM_RATE_LIMITED: ErrorRow(
            StatusCode.RESOURCE_EXHAUSTED, 429, _LIMIT, "upstream_rate_limited", retryable=True
        ),
        Reason.UPSTREAM_INTERRUPTED: ErrorRow(
            StatusCode.UNAVAILABLE, 502, _SERVER, "upstream_interrupted", retryable=True
        ),
        Reason.UPSTREAM_TIMEOUT: ErrorRow(
            StatusCode.DEADLINE_EXCEEDED, 504, _SERVER, "upstream_timeout", retryable=True
        ),
        Reason.CONTEXT_LENGTH_EXCEEDED: ErrorRow(StatusCode.INVALID_ARGUMENT, 400, _REQUEST, "context_length_exceeded"),
        Reason.CONTENT_FILTERED: ErrorRow(StatusCode.FAILED_PRECONDITION, 400, _REQUEST, "content_filter"),
        Reason.DEADLINE_EXCEEDED: ErrorRow(
            StatusCode.DEADLINE_EXCEEDED, 504, _SERVER, "deadline_exceeded", retryable=True
        ),
        Reason.CANCELLED: ErrorRow(StatusCode.CANCELLED, 499, _REQUEST, "cancelled"),
        Reason.RUN_INTERRUPTED: ErrorRow(StatusCode.ABORTED, 503, _SERVER, "run_interrupted", retryable=True),
        Reason.SETTINGS_STALE: ErrorRow(StatusCode.UNAVAILABLE, 503, _SERVER, "settings_stale", retryable=True),
        Reason.STORAGE_UNAVAILABLE: ErrorRow(
            StatusCode.UNAVAILABLE, 503, _SERVER, "storage_unavailable", retryable=True
        ),
        Reason.NOT_IMPLEMENTED: ErrorRow(StatusCode.UNIMPLEMENTED, 400, _REQUEST, "not_implemented"),
        Reason.LOOP_DETECTED: ErrorRow(StatusCode.FAILED_PRECONDITION, 400, _REQUEST, "loop_detected"),
        Reason.INTERNAL: ErrorRow(StatusCode.INTERNAL, 500, _SERVER, "internal_error"),
        Reason.METHOD_NOT_ALLOWED: ErrorRow(StatusCode.UNIMPLEMENTED, 405, _REQUEST, "method_not_allowed"),
        Reason.CONFLICT: ErrorRow(StatusCode.FAILED_PRECONDITION, 409, _REQUEST, "conflict"),
        Reason.FENCED: ErrorRow(StatusCode.ABORTED, 503, _SERVER, "fenced", retryable=True),
    }
)

# What a bare gRPC code of another service means to its caller, when no ErrorInfo came with it.
REASON_OF_CODE: Mapping[StatusCode, Reason] = MappingProxyType(
    {
        StatusCode.UNAVAILABLE: Reason.DEPENDENCY_UNAVAILABLE,
        StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
        StatusCode.CANCELLED: Reason.CANCELLED,
        StatusCode.UNIMPLEMENTED: Reason.NOT_IMPLEMENTED,
        # gRPC itself says so of a message over the size limit; our own limits come with ErrorInfo
        StatusCode.RESOURCE_EXHAUSTED: Reason.PAYLOAD_TOO_LARGE,
        StatusCode.INVALID_ARGUMENT: Reason.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND: Reason.NOT_FOUND,
    }
)
