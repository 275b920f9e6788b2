"""Admission control: a service refuses early instead of queueing what it cannot serve, by class of work."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic import Field

from kit.config import Section
from kit.errors import PlatformError, Reason
from kit.telemetry import metrics

INTERACTIVE, BATCH, CONTROL = "interactive", "batch", "control"
"""Classes: somebody waits; nobody waits; what keeps the platform itself going (settings, health, administration)."""
CLASSES = (INTERACTIVE, BATCH, CONTROL)
METADATA_KEY = "fc-work-class"

_MIN_RETRY_S = 1.0
_MAX_RETRY_S = 30.0
_SMOOTHING = 0.2

_current: ContextVar[str] = ContextVar("fastchat_work_class", default=INTERACTIVE)
_refused = metrics.counter("fastchat_refused_total", "Calls refused by admission.", ("service", "work_class", "reason"))
_in_flight = metrics.gauge("fastchat_in_flight", "Calls being served.", ("service", "work_class"))


class AdmissionConfig(Section):
    """How many calls of each class one server serves at once; 0: no limit. A stream counts until it ends."""

    interactive: int = Field(default=2000, ge=0)
    """Calls that somebody waits for."""
    batch: int = Field(default=64, ge=0)
    """Calls that nobody waits for."""
    control: int = Field(default=512, ge=0)
    """Calls that keep the platform going."""


class Admission:
    """Counts what one server is doing and refuses what is over the limit, or everything while draining."""

    def __init__(
        self, config: AdmissionConfig | None = None, service: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        config = config or AdmissionConfig()
        self._limits = {INTERACTIVE: config.interactive, BATCH: config.batch, CONTROL: config.control}
        self._count = dict.fromkeys(CLASSES, 0)
        self._mean_s = dict.fromkeys(CLASSES, 0.0)
        self._gauges = {name: _in_flight.labels(service, name) for name in CLASSES}
        self._service = service
        self._clock = clock
        self.draining = False

    @property
    def in_flight(self) -> int:
        """Calls being served, all classes."""
        return sum(self._count.values())

    @contextmanager
    def slot(self, work_class: str = INTERACTIVE) -> Iterator[None]:
        """Hold a place while working. DRAINING or OVERLOADED (with `retry_after_s`) at once when there is none."""
        self._admit(work_class)
        began = self._clock()
        self._count[work_class] += 1
        self._gauges[work_class].inc()
        try:
            yield
        finally:
            self._count[work_class] -= 1
            self._gauges[work_class].dec()
            took = self._clock() - began
            mean = self._mean_s[work_class]
            self._mean_s[work_class] = took if mean == 0 else mean + _SMOOTHING * (took - mean)

    def _admit(self, work_class: str) -> None:
        limit = self._limits[work_class]
        if self.draining:
            _refused.labels(self._service, work_class, "draining").inc()
            message = "The service is about to stop; another replica will answer."
            raise PlatformError(Reason.DRAINING, message, retry_after_s=_MIN_RETRY_S)
        if limit and self._count[work_class] >= limit:
            _refused.labels(self._service, work_class, "overloaded").inc()
            message = "The service is busy; try again later."
            metadata = {"class": work_class}
            raise PlatformError(Reason.OVERLOADED, message, retry_after_s=self._retry_after(work_class), **metadata)

    def _retry_after(self, work_class: str) -> float:
        """When a tenth of the places should have come free, in whole seconds between 1 and 30."""
        return min(max(float(math.ceil(self._mean_s[work_class] / 10)), _MIN_RETRY_S), _MAX_RETRY_S)


def current_class() -> str:
    """Class of the work that this task does; calls that it makes inherit it."""
    return _current.get()


def bind_class(work_class: str) -> None:
    """Set the class for the rest of this task."""
    _current.set(work_class)


@contextmanager
def working_as(work_class: str) -> Iterator[None]:
    """Set the class for a block: `with working_as(BATCH):` around what nobody waits for."""
    token = _current.set(work_class)
    try:
        yield
    finally:
        _current.reset(token)
