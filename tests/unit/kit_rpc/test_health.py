"""What is degraded, and what still works."""

import pytest

from kit.health import DependencyState, Health

pytestmark = pytest.mark.req("FR-030")


def test_critical_dependency_is_missing_until_it_is_reported() -> None:
    health = Health(critical=["database"])
    assert not health.ready
    health.set("database", True)
    assert health.ready
    health.set("database", False, "disk full")
    assert not health.ready


def test_other_dependencies_only_degrade() -> None:
    health = Health()
    health.set("control", False, "no answer for 5 s", "chat goes on with the last settings")
    assert health.ready
    assert health.degraded
    assert health.snapshot() == [
        DependencyState("control", False, "no answer for 5 s", "chat goes on with the last settings")
    ]


def test_draining_is_not_ready() -> None:
    health = Health()
    health.drain()
    assert not health.ready
    assert health.draining


def test_listeners_hear_changes_only() -> None:
    health, heard = Health(), []
    health.on_change(lambda: heard.append(health.degraded))
    for ok in (True, True, False, False):
        health.set("bus", ok)
    assert heard == [False, True]
