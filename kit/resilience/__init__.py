"""Guards around calls to a dependency: deadline, retry with jitter, circuit breaker, bulkhead, all from settings."""

from kit.resilience.breaker import Breaker, BreakerState
from kit.resilience.bulkhead import Bulkhead
from kit.resilience.guard import Guard
from kit.resilience.policy import BreakerPolicy, BulkheadPolicy, Policy

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "Bulkhead", "BulkheadPolicy", "Guard", "Policy"]
