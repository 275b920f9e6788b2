"""NATS errors as the platform's own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nats.errors
import nats.js.errors

from kit.errors import PlatformError, Reason

_RETRY_AFTER_S = 2.0

# JetStream error codes, https://github.com/nats-io/nats-server/blob/main/server/errors.json
_WRONG_LAST_SEQUENCE = (10071, 10164)
_MAX_PER_SUBJECT = (10077,)
_NO_STORAGE = (10023, 10028, 10047)


class WrongSequence(Exception):  # an answer, not a failure
    """The append was refused: the subject's last sequence is not the expected one."""


class LimitReached(PlatformError):
    """The append was refused: the subject holds as many messages as it may."""

    def __init__(self) -> None:
        super().__init__(Reason.STORAGE_UNAVAILABLE, "The log has reached its limit.", store="nats")


def away(detail: str = "") -> PlatformError:
    """DEPENDENCY_UNAVAILABLE for NATS."""
    message = f"The message bus cannot be reached{': ' + detail if detail else ''}."
    return PlatformError(Reason.DEPENDENCY_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S, dependency="nats")


def is_unclear(error: PlatformError) -> bool:
    """Whether an append that failed so may have been stored all the same."""
    return isinstance(error.__cause__, TimeoutError | nats.errors.Error | OSError)


@contextmanager
def translated() -> Iterator[None]:
    """Raise WrongSequence, LimitReached or a PlatformError (DEPENDENCY_UNAVAILABLE mostly) for what NATS raises."""
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        _check_cancelled(task, cancellations)
        translation = _translation(error)
        if translation is error:
            raise
        raise translation from error
    _check_cancelled(task, cancellations)


def _check_cancelled(task: "asyncio.Task[Any] | None", before: int) -> None:
    """nats-py awaits by wait_for, which before Python 3.12 loses a cancellation that comes together with the result."""
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


def _translation(error: Exception) -> Exception:
    if isinstance(error, nats.js.errors.APIError):
        return _of_api(error)
    if isinstance(error, nats.errors.MaxPayloadError):
        return PlatformError(Reason.PAYLOAD_TOO_LARGE, "The message is larger than the bus takes.")
    if isinstance(error, TimeoutError | nats.errors.Error | OSError):
        return away(type(error).__name__)
    return error


def _of_api(error: nats.js.errors.APIError) -> Exception:
    if error.err_code in _WRONG_LAST_SEQUENCE:
        return WrongSequence()
    if error.err_code in _MAX_PER_SUBJECT:
        return LimitReached()
    if error.err_code in _NO_STORAGE or error.code == 507:
        message = "The message bus has no storage left."
        return PlatformError(Reason.STORAGE_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S, store="nats")
    return away(error.description or str(error.err_code))
