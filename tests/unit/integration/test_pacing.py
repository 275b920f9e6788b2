"""The pacer: nobody waits below the limit; above it turns come one interval apart."""

from __future__ import annotations

import pytest

from integration.pacing import Pacer


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.req("PR-033")
def test_nobody_waits_below_the_limit() -> None:
    clock = Clock()
    pacer = Pacer(100, clock)
    for _ in range(50):
        assert pacer.reserve() == 0
        clock.seconds += 0.01


@pytest.mark.req("PR-033")
def test_turns_above_the_limit_are_an_interval_apart() -> None:
    pacer = Pacer(100, Clock())
    waits = [pacer.reserve() for _ in range(20)]
    assert waits[:5] == pytest.approx([0.0] * 5), "a burst of a twentieth of a second"
    assert waits[5:] == pytest.approx([0.01 * i for i in range(1, 16)])


@pytest.mark.req("PR-033")
def test_a_quiet_while_is_not_saved_up() -> None:
    clock = Clock()
    pacer = Pacer(100, clock)
    clock.seconds += 3600
    assert sum(pacer.reserve() < 0.001 for _ in range(20)) == 5
