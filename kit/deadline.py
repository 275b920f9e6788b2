"""The deadline of the work that this task does, inherited by every call that it makes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kit.errors import PlatformError, Reason

_deadline: ContextVar[float | None] = ContextVar("fastchat_deadline", default=None)


def remaining() -> float | None:
    """Seconds that are left (0.0 when none are), or None without a deadline."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def bind(seconds: float) -> None:
    """Set the deadline for the rest of this task (server side, where a task is one call)."""
    _deadline.set(time.monotonic() + seconds)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Narrow the deadline for a block: calls made inside end by then. The block itself is not interrupted."""
    left = remaining()
    token = _deadline.set(time.monotonic() + (seconds if left is None else min(left, seconds)))
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def unbounded() -> Iterator[None]:
    """Forget the deadline for a block: for work that outlives the request that asked for it."""
    token = _deadline.set(None)
    try:
        yield
    finally:
        _deadline.reset(token)


def timeout_for(seconds: float | None) -> float | None:
    """The smaller of `seconds` and what is left. DEADLINE_EXCEEDED when nothing is left."""
    left = remaining()
    if left is None:
        return seconds
    if left <= 0:
        raise PlatformError(Reason.DEADLINE_EXCEEDED, "The deadline has passed.")
    return left if seconds is None else min(left, seconds)
