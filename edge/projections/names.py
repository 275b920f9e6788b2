"""Names of the wire for the enums of run events."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from fastchat.common.v1 import event_pb2 as pb

STATUS_TYPES = {
    pb.STATUS_KIND_UNSPECIFIED: "thinking",
    pb.STATUS_KIND_THINKING: "thinking",
    pb.STATUS_KIND_AGENT_HANDOFF: "agent_handoff",
    pb.STATUS_KIND_TOOL_START: "tool_start",
    pb.STATUS_KIND_TOOL_PROGRESS: "tool_progress",
    pb.STATUS_KIND_TOOL_COMPLETE: "tool_complete",
    pb.STATUS_KIND_ERROR: "error",
}

# Where a run ends before its model tells a finish reason.
FINISH_BY_OUTCOME = {
    pb.RUN_OUTCOME_UNSPECIFIED: "stop",
    pb.RUN_OUTCOME_COMPLETED: "stop",
    pb.RUN_OUTCOME_CANCELLED: "stop",
    pb.RUN_OUTCOME_INCOMPLETE: "length",
}


def name_of(value_name: str, prefix: str) -> str:
    """`TOKEN_KIND_TEXT` -> `text`."""
    return value_name.removeprefix(prefix).lower()


def rfc3339(time: Timestamp) -> str:
    """A time as RFC 3339 text in UTC."""
    return time.ToJsonString()
