"""A circuit breaker: closed, open for a while after failures in a row, then half open for one probe at a time.

Our own sixty lines: purgatory keeps wall-clock time, lets every caller through when half open, and tells its state only
through private modules (docs/decisions/0011).
"""

import time
from collections.abc import Callable
from enum import Enum

from kit.errors import PlatformError, Reason
from kit.resilience.policy import BreakerPolicy
from kit.telemetry import metrics

_open = metrics.gauge("fastchat_breaker_open", "1 while the circuit breaker of a dependency is open.", ("dependency",))


class BreakerState(Enum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Tell it `before` a call, and then exactly one of `succeeded`, `failed` and `abandoned`."""

    def __init__(self, name: str, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._policy = policy
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        self._gauge = _open.labels(name)

    @property
    def state(self) -> BreakerState:
        """Where it stands now."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._left() > 0 else BreakerState.HALF_OPEN

    def before(self) -> None:
        """Let the call through, or raise CIRCUIT_OPEN with the time after which a call may try."""
        if self._opened_at is None:
            return
        left = self._left()
        if left > 0 or self._probing:
            message = f"{self.name} keeps failing and is not called for now."
            raise PlatformError(Reason.CIRCUIT_OPEN, message, retry_after_s=max(left, 1.0), dependency=self.name)
        self._probing = True

    def succeeded(self) -> None:
        """The call went well: closed, and nothing is held against it."""
        self._failures = 0
        self._probing = False
        if self._opened_at is not None:
            self._opened_at = None
            self._gauge.set(0)

    def failed(self) -> None:
        """The call failed by the dependency's fault. Opens at the limit, and again after a failed probe."""
        self._failures += 1
        limit = self._policy.failures
        if self._probing or (limit and self._failures >= limit and self._opened_at is None):
            self._opened_at = self._clock()
            self._gauge.set(1)
        self._probing = False

    def abandoned(self) -> None:
        """The call ended without telling anything about the dependency (cancelled)."""
        self._probing = False

    def _left(self) -> float:
        return 0.0 if self._opened_at is None else self._opened_at + self._policy.cooldown_s - self._clock()
