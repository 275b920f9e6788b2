"""Prometheus metrics of the process, all in one registry.

Metrics are made once by name; asking again gives the same one, since the services of one process share them. Label
values must come from small closed sets; a tenant is a label only through `tenant_label`.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

from kit.telemetry.merged import Without

OTHER = "other"
TENANT = "tenant"
"""Name of the label that only `tenant_label` may fill."""
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

registry = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)

M = TypeVar("M", bound=MetricWrapperBase)
_made: dict[str, MetricWrapperBase] = {}


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    """A counter; by convention its name ends with `_total`."""
    return _once(name, Counter, lambda: Counter(name, documentation, labels, registry=registry))


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
    """A value that goes up and down."""
    return _once(name, Gauge, lambda: Gauge(name, documentation, labels, registry=registry))


def histogram(
    name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS
) -> Histogram:
    """A distribution; for durations the unit is seconds and the name ends with `_seconds`."""
    return _once(
        name, Histogram, lambda: Histogram(name, documentation, labels, registry=registry, buckets=tuple(buckets))
    )


def exposition(*, tenants: bool = True) -> bytes:
    """The registry in Prometheus' text format; without `tenants`, added up over them."""
    return generate_latest(registry if tenants else Without(registry, TENANT))


class TenantLabels:
    """Gives the first `limit` tenants a label of their own; all others share "other"."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._known: set[str] = set()

    def __call__(self, tenant_id: str) -> str:
        """The label value for a tenant."""
        if tenant_id in self._known:
            return tenant_id
        if not tenant_id or len(self._known) >= self.limit:
            return OTHER
        self._known.add(tenant_id)
        return tenant_id


tenant_labels = TenantLabels(limit=20)


def tenant_label(tenant_id: str) -> str:
    """The tenant's label value, bounded by the setting `telemetry.tenant_labels`."""
    return tenant_labels(tenant_id)


def _once(name: str, kind: type[M], make: Callable[[], M]) -> M:
    found = _made.get(name)
    if found is None:
        found = _made[name] = make()
    if not isinstance(found, kind):
        raise TypeError(f"metric {name} is a {type(found).__name__}")
    return found
