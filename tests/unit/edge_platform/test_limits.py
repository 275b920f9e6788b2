"""Requests per minute and concurrent streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.auth.identity import Authenticated
from edge.limits import WINDOW_S, Limits, Rule, Rules, SlidingWindows, rate_headers
from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError

pytestmark = pytest.mark.req("PR-004")

ANN = Authenticated(Principal(tenant_id="acme", subject="ann"), {})


class Source:
    """The same limits for everybody."""

    def __init__(self, per_minute: int | None = None, streams: int | None = None) -> None:
        self._rules = Rules(
            [Rule("key", "ann", per_minute)] if per_minute is not None else [],
            [Rule("tenant", "acme", streams)] if streams is not None else [],
        )

    def rules_of(self, _: Authenticated) -> Rules:
        return self._rules


class Clock:
    now = 6000.0

    def __call__(self) -> float:
        return self.now


def test_requests_up_to_the_limit_pass_and_the_next_is_told_when_to_come_back():
    clock = Clock()
    limits = Limits(Source(per_minute=3), clock)
    assert [limits.count(ANN).remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(PlatformError) as caught:
        limits.count(ANN)
    assert caught.value.metadata == {"limit": "requests_per_minute", "scope": "key"}
    clock.now += caught.value.retry_after_s + 0.001
    limits.count(ANN)


def test_headers_are_spelt_as_openai_spells_them():
    limits = Limits(Source(per_minute=10), Clock())
    assert rate_headers(limits.count(ANN)) == [
        (b"x-ratelimit-limit-requests", b"10"),
        (b"x-ratelimit-remaining-requests", b"9"),
        (b"x-ratelimit-reset-requests", b"60.000s"),
    ]


def test_without_a_limit_nothing_is_told():
    assert Limits(Source()).count(ANN) is None


def test_a_limit_of_nothing_lets_nobody_in():
    with pytest.raises(PlatformError):
        Limits(Source(per_minute=0), Clock()).count(ANN)


@given(st.lists(st.floats(0.01, 30), max_size=200), st.integers(1, 20))
def test_no_fixed_minute_lets_through_more_than_the_limit(gaps, maximum):
    clock, windows, rule = Clock(), SlidingWindows(lambda: clock.now), Rule("key", "ann", maximum)
    clock.now = 6000.0
    passed: dict[int, int] = {}
    for gap in gaps:
        clock.now += gap
        if windows.standing(rule).remaining:
            windows.add(rule)
            minute = int(clock.now // WINDOW_S)
            passed[minute] = passed.get(minute, 0) + 1
        else:
            wait = windows.retry_after_s(rule)
            assert 0 <= wait <= 2 * WINDOW_S
            clock.now += wait + 1e-6
            assert windows.standing(rule).remaining, "after retry_after there is room"
    assert all(count <= maximum for count in passed.values())


def test_keys_beyond_the_maximum_are_forgotten_oldest_first():
    windows = SlidingWindows(lambda: 6000.0, maximum_keys=2)
    rules = [Rule("key", name, 5) for name in ("a", "b", "c")]
    for rule in rules:
        windows.add(rule)
    assert [windows.standing(rule).remaining for rule in rules] == [5, 4, 4]


def test_streams_up_to_the_limit_at_once():
    limits = Limits(Source(streams=1))
    with limits.stream(ANN):
        with pytest.raises(PlatformError) as caught, limits.stream(ANN):
            pass
        assert caught.value.metadata["limit"] == "concurrent_streams"
    with limits.stream(ANN):
        pass


def test_settings_of_tenant_workspace_and_key_become_rules(door):
    door.control.settings("acme", {"limits": {"requests_per_minute": 100, "concurrent_streams": 9}})
    door.control.settings("acme", {"limits": {"concurrent_streams": 5, "max_body_bytes": 1000}}, "lab", "workspace")
    door.control.key("k1", "acme", "lab", settings={"limits": {"requests_per_minute": 7, "concurrent_streams": 2}})
    record = next(iter(door.pushed._keys.values()))
    principal = Principal(tenant_id="acme", workspace_id="lab", subject="app:k1", api_key_id="key_k1")
    who = Authenticated(principal, record.settings, record)
    rules = door.pushed.rules_of(who)
    assert [(rule.scope, rule.maximum) for rule in rules.requests_per_minute] == [("key", 7)]
    assert [(rule.scope, rule.maximum) for rule in rules.concurrent_streams] == [
        ("tenant", 9),
        ("workspace", 5),
        ("key", 2),
    ]
    assert door.pushed.max_body_bytes(who) == 1000
    door.control.settings("acme", {"limits": {"requests_per_minute": 3}})
    assert door.pushed.rules_of(who).requests_per_minute[0].maximum == 3, "a change counts at once"
