"""How often and how much at once a caller may ask: requests per minute and concurrent streams, per process.

A sliding window is estimated from two fixed ones (the previous minute's count weighs what of it is still in the last
sixty seconds). Two integers a key, a bounded number of keys, no timers: the in-memory store of the `limits` library
sweeps all its keys in a task after each hit, 0.76 ms a request at 5,000 keys, where this costs about a microsecond.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from edge.auth.identity import Authenticated
from kit.errors import PlatformError, Reason

WINDOW_S: Final = 60.0
_MAXIMUM_KEYS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit that a caller is under. `scope`: "key", "workspace" or "tenant"; `holder` is unique in it."""

    scope: str
    holder: str
    maximum: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Every limit of a caller."""

    requests_per_minute: Sequence[Rule]
    concurrent_streams: Sequence[Rule]


class RuleSource(Protocol):
    """Tells the limits of a caller from the settings in force."""

    def rules_of(self, who: Authenticated) -> Rules:
        """Cheap: called for every request."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit. Times in seconds."""

    rule: Rule
    remaining: int
    reset_s: float


class SlidingWindows:
    """Counts by key. Least recently counted keys are forgotten beyond the maximum."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, maximum_keys: int = _MAXIMUM_KEYS) -> None:
        self._clock = clock
        self._maximum_keys = maximum_keys
        self._windows: OrderedDict[tuple[str, str], tuple[int, int, int]] = OrderedDict()

    def standing(self, rule: Rule) -> Standing:
        """What is left now."""
        previous, current, elapsed = self._at(rule)
        used = previous * (1 - elapsed / WINDOW_S) + current
        return Standing(rule, max(0, int(rule.maximum - used)), WINDOW_S - elapsed)

    def retry_after_s(self, rule: Rule) -> float:
        """Seconds until one more fits, for a rule that is used up."""
        previous, current, elapsed = self._at(rule)
        room = rule.maximum - 1 - current
        if previous and room >= 0:
            return max(0.0, WINDOW_S * (1 - room / previous) - elapsed)
        # This minute alone is full: next minute, once enough of it has slid out.
        share = max(0.0, 1 - (rule.maximum - 1) / current) if current else 0.0
        return WINDOW_S - elapsed + WINDOW_S * share

    def add(self, rule: Rule) -> None:
        """Count one."""
        previous, current, _ = self._at(rule)
        key = (rule.scope, rule.holder)
        self._windows[key] = (int(self._clock() // WINDOW_S), current + 1, previous)
        self._windows.move_to_end(key)
        while len(self._windows) > self._maximum_keys:
            self._windows.popitem(last=False)

    def _at(self, rule: Rule) -> tuple[int, int, float]:
        """Counts of the previous and the current minute, and seconds into the current one."""
        index, elapsed = divmod(self._clock(), WINDOW_S)
        window, current, previous = self._windows.get((rule.scope, rule.holder), (int(index), 0, 0))
        age = int(index) - window
        if age == 0:
            return previous, current, elapsed
        return (current if age == 1 else 0), 0, elapsed


class Limits:
    """The limits of all callers of this process."""

    def __init__(self, source: RuleSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._windows = SlidingWindows(clock)
        self._streams: Counter[tuple[str, str]] = Counter()

    def count(self, who: Authenticated) -> Standing | None:
        """Count one request; what is left of the tightest limit, None if there is none.

        RATE_LIMITED with `retry_after_s` if one is used up; then nothing is counted.
        """
        rules = self._source.rules_of(who).requests_per_minute
        for rule in rules:
            if self._windows.standing(rule).remaining < 1:
                raise _exceeded("requests_per_minute", rule, self._windows.retry_after_s(rule))
        for rule in rules:
            self._windows.add(rule)
        return self.standing(who)

    def standing(self, who: Authenticated) -> Standing | None:
        """What is left of the caller's tightest request limit; None if there is none."""
        rules = self._source.rules_of(who).requests_per_minute
        return min((self._windows.standing(rule) for rule in rules), key=lambda left: left.remaining, default=None)

    @contextmanager
    def stream(self, who: Authenticated) -> Iterator[None]:
        """Hold one of the caller's concurrent streams. RATE_LIMITED if all are taken."""
        rules = self._source.rules_of(who).concurrent_streams
        for rule in rules:
            if self._streams[(rule.scope, rule.holder)] >= rule.maximum:
                raise _exceeded("concurrent_streams", rule, 1.0)
        for rule in rules:
            self._streams[(rule.scope, rule.holder)] += 1
        try:
            yield
        finally:
            for rule in rules:
                key = (rule.scope, rule.holder)
                self._streams[key] -= 1
                if not self._streams[key]:
                    del self._streams[key]


def rate_headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """`x-ratelimit-*` as OpenAI tells them."""
    return [
        (b"x-ratelimit-limit-requests", str(standing.rule.maximum).encode()),
        (b"x-ratelimit-remaining-requests", str(standing.remaining).encode()),
        (b"x-ratelimit-reset-requests", f"{standing.reset_s:.3f}s".encode()),
    ]


def _exceeded(limit: str, rule: Rule, retry_after_s: float) -> PlatformError:
    unit = "requests a minute" if limit == "requests_per_minute" else "streams at once"
    return PlatformError(
        Reason.RATE_LIMITED,
        f"the {rule.scope}'s limit of {rule.maximum} {unit} is used up",
        retry_after_s=retry_after_s,
        limit=limit,
        scope=rule.scope,
    )
