"""How calls to a dependency are guarded, as settings."""

from pydantic import Field

from kit.config import Section


class BreakerPolicy(Section):
    """When to stop calling a dependency that fails."""

    failures: int = Field(default=5, ge=0)
    """Failures in a row after which the breaker opens; 0: never."""
    cooldown_s: float = Field(default=10.0, gt=0)
    """How long it stays open before one call may try."""


class BulkheadPolicy(Section):
    """How many calls to a dependency run at once, so that a slow one cannot take everything."""

    limit: int = Field(default=0, ge=0)
    """Calls at once; 0: no limit."""
    queue: int = Field(default=0, ge=0)
    """Calls that may wait for a place; more are refused at once."""


class Policy(Section):
    """One dependency's guard. Durations in seconds."""

    timeout_s: float = Field(default=30.0, ge=0)
    """One attempt; 0: only the deadline of the request."""
    retries: int = Field(default=2, ge=0, le=20)
    """Attempts after the first, for errors that may pass."""
    backoff_s: float = Field(default=0.1, ge=0)
    """Pause before the first retry; each further one doubles it."""
    backoff_max_s: float = Field(default=2.0, ge=0)
    """Longest pause. A dependency that asks for a longer one is not retried."""
    jitter_s: float = Field(default=0.1, ge=0)
    """Random part added to every pause."""
    breaker: BreakerPolicy = BreakerPolicy()
    """When to stop calling."""
    bulkhead: BulkheadPolicy = BulkheadPolicy()
    """How many calls at once."""
