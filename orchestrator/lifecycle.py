"""Where a run stands, and which moves are allowed."""

from __future__ import annotations

from fastchat.common.v1.event_pb2 import RunOutcome
from fastchat.orchestrator.v1.run_service_pb2 import RunStatus
from orchestrator.fold import RunFold

QUEUED = RunStatus.RUN_STATUS_QUEUED
RUNNING = RunStatus.RUN_STATUS_RUNNING
INTERRUPTED = RunStatus.RUN_STATUS_INTERRUPTED
COMPLETED = RunStatus.RUN_STATUS_COMPLETED
CANCELLED = RunStatus.RUN_STATUS_CANCELLED
INCOMPLETE = RunStatus.RUN_STATUS_INCOMPLETE
FAILED = RunStatus.RUN_STATUS_FAILED

ACTIVE = frozenset({QUEUED, RUNNING, INTERRUPTED})
ENDED = frozenset({COMPLETED, CANCELLED, INCOMPLETE, FAILED})

# RUNNING -> RUNNING is a takeover. Nothing leaves an ended state.
MOVES: dict[RunStatus.ValueType, frozenset[RunStatus.ValueType]] = {
    QUEUED: frozenset({RUNNING}) | ENDED,
    RUNNING: frozenset({RUNNING, INTERRUPTED}) | ENDED,
    INTERRUPTED: frozenset({QUEUED, RUNNING}) | ENDED,
    **{ended: frozenset() for ended in ENDED},
}

_OUTCOMES = {
    RunOutcome.RUN_OUTCOME_COMPLETED: COMPLETED,
    RunOutcome.RUN_OUTCOME_CANCELLED: CANCELLED,
    RunOutcome.RUN_OUTCOME_INCOMPLETE: INCOMPLETE,
}


def may_move(before: RunStatus.ValueType, after: RunStatus.ValueType) -> bool:
    """Whether a run may go from one state to the other."""
    return after in MOVES[before]


def status_of(fold: RunFold) -> RunStatus.ValueType:
    """The state that an ended log tells. Raises ValueError for a log without its end."""
    if fold.error is not None:
        return FAILED
    if fold.complete is not None:
        return _OUTCOMES[fold.complete.outcome]
    raise ValueError("the log has no end")


def label(status: int) -> str:
    """Short name of a state, as error metadata and metrics tell it: "running", "completed" ..."""
    return _LABELS[status]


_LABELS: dict[int, str] = {number: name.removeprefix("RUN_STATUS_").lower() for name, number in RunStatus.items()}
