"""Numbering, folding and the state machine."""

from __future__ import annotations

import itertools

import pytest

from fastchat.common.v1.event_pb2 import ErrorPayload, UsagePayload
from fastchat.orchestrator.v1.run_service_pb2 import RunStatus
from orchestrator import lifecycle
from orchestrator.events import Numbering, cancelled, incomplete, is_terminal
from orchestrator.fold import RunFold
from tests.unit.orchestrator.samples import complete, delta, event, started, token


def numbering(last: int = 0) -> Numbering:
    counter = itertools.count(1)
    return Numbering("run", "thread", "f" * 32, last, lambda: 1_500_000_000_250_000_000, lambda: f"id{next(counter)}")


@pytest.mark.req("FR-007")
def test_events_are_numbered_from_one_without_gaps() -> None:
    stamp = numbering().stamp
    events = [stamp(started()), stamp(token("a")), stamp(complete())]
    assert [one.sequence for one in events] == [1, 2, 3]
    assert [one.event_id for one in events] == ["id1", "id2", "id3"]
    assert {(one.run_id, one.thread_id, one.trace_id) for one in events} == {("run", "thread", "f" * 32)}
    assert (events[0].time.seconds, events[0].time.nanos) == (1_500_000_000, 250_000_000)


def test_numbering_goes_on_after_a_takeover() -> None:
    assert numbering(41).stamp(token("a")).sequence == 42


def test_a_log_folds_into_what_readers_saw() -> None:
    events = [event(1, started()), event(2, token("Hel", "lo")), event(3, token(" you")), event(4, complete())]
    fold = RunFold.of(one.SerializeToString() for one in events)
    assert fold.delivered.text() == "Hello you"
    assert (fold.last_sequence, fold.ended) == (4, True)
    assert fold.started == started()


def test_an_event_that_was_folded_already_changes_nothing() -> None:
    fold = RunFold()
    for _ in range(2):
        fold.add(event(1, token("a")))
    assert fold.delivered.text() == "a"


def test_choices_are_kept_apart() -> None:
    fold = RunFold()
    payload = token("a")
    payload.deltas.append(delta("b", choice=1))
    fold.add(event(1, payload))
    assert (fold.delivered.text(), fold.delivered.text(choice_index=1), fold.delivered.choices) == ("a", "b", 2)


def test_final_usage_is_told_from_usage_on_the_way() -> None:
    fold = RunFold()
    fold.usage = UsagePayload(is_final=False)
    assert not fold.has_final_usage


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (complete(), lifecycle.COMPLETED),
        (cancelled(1), lifecycle.CANCELLED),
        (incomplete(2), lifecycle.INCOMPLETE),
    ],
)
def test_the_end_of_a_log_decides_the_status(payload: object, status: int) -> None:
    fold = RunFold()
    fold.add(event(1, payload))
    assert lifecycle.status_of(fold) == status
    assert is_terminal(event(1, payload))


def test_an_error_is_an_end_too() -> None:
    fold = RunFold()
    fold.error = ErrorPayload(message="x")
    assert lifecycle.status_of(fold) == lifecycle.FAILED


def test_a_log_without_its_end_has_no_final_status() -> None:
    with pytest.raises(ValueError, match="no end"):
        lifecycle.status_of(RunFold())


@pytest.mark.req("PR-024")
def test_no_run_leaves_an_ended_state_and_every_active_one_can_end() -> None:
    for before, after in itertools.product(lifecycle.ENDED, lifecycle.MOVES):
        assert not lifecycle.may_move(before, after)
    for before, after in itertools.product(lifecycle.ACTIVE, lifecycle.ENDED):
        assert lifecycle.may_move(before, after)
    assert lifecycle.may_move(lifecycle.RUNNING, lifecycle.RUNNING), "a takeover"
    assert set(lifecycle.MOVES) == set(RunStatus.values()) - {0}


def test_states_have_short_names() -> None:
    assert lifecycle.label(lifecycle.COMPLETED) == "completed"
