"""Between rows and messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from control.tenants import ACTIVE, SUSPENDED
from fastchat.control.v1.tenant_service_pb2 import LifecycleStatus
from kit.errors import PlatformError
from kit.paging import decode_token, encode_token, page_size

T = TypeVar("T")

_STATUS: Final = {
    LifecycleStatus.LIFECYCLE_STATUS_UNSPECIFIED: "",
    LifecycleStatus.LIFECYCLE_STATUS_ACTIVE: ACTIVE,
    LifecycleStatus.LIFECYCLE_STATUS_SUSPENDED: SUSPENDED,
}
_LIFECYCLE: Final = {text: status for status, text in _STATUS.items()}


def stamp(when: datetime | None) -> Timestamp | None:
    """A time as a message; None stays absent."""
    if when is None:
        return None
    result = Timestamp()
    result.FromDatetime(when)
    return result


def moment(message: Any, field: str, shown: str = "") -> datetime | None:
    """A time of a request; None if absent, INVALID_ARGUMENT if it is none."""
    if not message.HasField(field):
        return None
    try:
        told: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise PlatformError.invalid(shown or field, "Not a time.") from error
    return told


def status_text(status: LifecycleStatus.ValueType) -> str:
    """The status' text; "" for "unchanged". INVALID_ARGUMENT for a number without a name."""
    if status not in _STATUS:
        raise PlatformError.invalid("status", "Unknown.")
    return _STATUS[status]


def lifecycle(text: str) -> LifecycleStatus.ValueType:
    """The status' number."""
    return _LIFECYCLE[text]


def tenant_of(tenant_id: str) -> str:
    """The tenant that a request means; INVALID_ARGUMENT if it names none."""
    if not tenant_id:
        raise PlatformError.invalid("tenant_id", "Required.")
    return tenant_id


def required(field: str, value: str) -> str:
    """A text that must be there."""
    if not value:
        raise PlatformError.invalid(field, "Required.")
    return value


class Page:
    """A page that is asked for: one row more is read than is answered, to know whether there is a next page."""

    def __init__(self, request: Any, parts: int) -> None:
        self.size = page_size(request.page_size)
        self.limit = self.size + 1
        self.after = decode_token(request.page_token, parts)

    def cut(self, rows: Sequence[T], key: Callable[[T], tuple[str | int, ...]]) -> tuple[list[T], str]:
        """The rows to answer, and the token of the next page ("" for none)."""
        page = list(rows[: self.size])
        return page, encode_token(*key(page[-1])) if len(rows) > self.size else ""
