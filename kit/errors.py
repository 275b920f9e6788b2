"""The platform's one error class, and its way over gRPC and into a run's events and back.

`Reason` names what went wrong, `TABLE` what that is in every protocol; nothing else in the platform maps errors.
"""

from collections.abc import Mapping
from typing import Any, cast

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from fastchat.common.v1.event_pb2 import ErrorPayload
from kit.error_table import REASON_OF_CODE, TABLE, ErrorRow, Reason

__all__ = ["DOMAIN", "STATUS_KEY", "TABLE", "ErrorRow", "PlatformError", "Reason"]

DOMAIN = "fastchat"
STATUS_KEY = "grpc-status-details-bin"
"""Trailer that carries the serialized google.rpc.Status (the name is gRPC's)."""

_PREFIX = "ERROR_REASON_"
_RETRY_AFTER = "retry_after_s"
# Trailers share one block of 8 KiB (gRPC's default limit) with grpc-message, which tells the text a second time.
_MESSAGE_CHARS = 1200
_VALUE_CHARS = 300
_QUOTA_REASONS = frozenset({Reason.RATE_LIMITED, Reason.BUDGET_EXCEEDED})


class PlatformError(Exception):
    """What went wrong, for a person (`message`) and for programs (`reason`, `metadata`).

    `metadata` follows the catalogue (each `ErrorReason` documents its keys); `retry_after_s` tells when trying again
    makes sense. The message reaches clients: never an exception's text, a path or another tenant's id.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.reason = Reason(reason)
        self.message = message
        self.retry_after_s = retry_after_s
        self.metadata: dict[str, str] = {key: str(value) for key, value in metadata.items()}

    def __repr__(self) -> str:
        return f"PlatformError({self.reason.name}, {self.message!r}, {self.metadata!r})"

    @property
    def row(self) -> ErrorRow:
        """What the reason is in gRPC, HTTP and OpenAI's error object."""
        return TABLE[self.reason]

    @classmethod
    def invalid(cls, field: str, message: str) -> "PlatformError":
        """INVALID_ARGUMENT of one field, named as the client wrote it ("messages[0].role")."""
        return cls(Reason.INVALID_ARGUMENT, message, field=field)

    @classmethod
    def not_found(cls, resource: str, id: str) -> "PlatformError":
        """NOT_FOUND, the same whether it is absent or another tenant's. `resource` is a noun such as "api_key"."""
        return cls(Reason.NOT_FOUND, f"No such {resource.replace('_', ' ')}: {id}", resource=resource, id=id)

    @classmethod
    def from_rpc(cls, error: grpc.aio.AioRpcError, dependency: str) -> "PlatformError":
        """The error that `dependency` answered with: its own, or what the bare code means to its caller."""
        status = _status_of(error)
        told = cls.from_status(status) if status is not None else None
        return told or cls.from_code(error.code(), dependency)

    @classmethod
    def from_code(cls, code: StatusCode, dependency: str) -> "PlatformError":
        """An error for a gRPC code without details. gRPC's own text is kept out: it names addresses."""
        reason = REASON_OF_CODE.get(code, Reason.INTERNAL)
        said = code.name.replace("_", " ").lower()
        return cls(reason, f"The call to {dependency} failed: {said}.", dependency=dependency)

    @classmethod
    def from_status(cls, status: Status) -> "PlatformError | None":
        """Read back what `to_status` wrote; None when there is no ErrorInfo of ours in it."""
        info, retry = ErrorInfo(), RetryInfo()
        known = retry_told = False
        for detail in status.details:
            if detail.Is(ErrorInfo.DESCRIPTOR):
                known = detail.Unpack(info) and info.domain == DOMAIN
            elif detail.Is(RetryInfo.DESCRIPTOR):
                retry_told = detail.Unpack(retry)
        reason = _reason_named(info.reason) if known else None
        if reason is None:
            return None
        result = cls(reason, status.message)
        result.metadata.update(info.metadata)
        if retry_told:
            result.retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        return result

    def to_status(self) -> Status:
        """google.rpc.Status with ErrorInfo, and BadRequest, QuotaFailure or RetryInfo where they say more."""
        message = self.message[:_MESSAGE_CHARS]
        status = Status(code=self.row.grpc_code.value[0], message=message)
        info = ErrorInfo(reason=_PREFIX + self.reason.name, domain=DOMAIN)
        for key, value in self.metadata.items():
            info.metadata[key] = value[:_VALUE_CHARS]
        details: list[Message] = [info]
        if "field" in self.metadata:
            violation = BadRequest.FieldViolation(field=self.metadata["field"][:_VALUE_CHARS], description=message)
            details.append(BadRequest(field_violations=[violation]))
        if self.reason in _QUOTA_REASONS:
            subject = self.metadata.get("scope", "")
            details.append(QuotaFailure(violations=[QuotaFailure.Violation(subject=subject, description=message)]))
        if self.retry_after_s is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_after_s * 1e9))
            details.append(RetryInfo(retry_delay=delay))
        for detail in details:
            status.details.add().Pack(detail)
        return status

    @classmethod
    def from_event(cls, payload: ErrorPayload) -> "PlatformError":
        """The error that ended a run. A reason of a newer release reads as INTERNAL."""
        result = cls(_REASONS.get(int(payload.reason), Reason.INTERNAL), payload.message)
        result.metadata.update(payload.metadata)
        retry_after = result.metadata.pop(_RETRY_AFTER, None)
        if retry_after is not None:
            result.retry_after_s = float(retry_after)
        return result

    def to_event(self) -> ErrorPayload:
        """The error as the payload of a run's last event."""
        payload = ErrorPayload(reason=cast(Any, int(self.reason)), message=self.message, metadata=self.metadata)
        if self.retry_after_s is not None:
            payload.metadata[_RETRY_AFTER] = repr(float(self.retry_after_s))
        return payload


def _status_of(error: grpc.aio.AioRpcError) -> Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                return None
    return None


def _reason_named(name: str) -> Reason | None:
    return Reason.__members__.get(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None


_REASONS: Mapping[int, Reason] = {int(reason): reason for reason in Reason}
