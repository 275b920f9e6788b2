"""The constants of a projection, as they travel in RunStarted.projection_json."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import orjson

from fastchat.common.v1.event_pb2 import RunStarted

# Raised when the same events would give other bytes than before.
PROJECTION_VERSION = 1


@dataclass(frozen=True, slots=True)
class Options:
    """How a chat reader wants the run told."""

    stream: bool = True
    # choices of the answer
    n: int = 1
    # the standard usage chunk at the end, and `usage: null` before it
    include_usage: bool = False
    # named | envelope | off
    events: str = "named"
    # status frames (named only)
    status: bool = True
    # usage frames (named only)
    usage: bool = False
    # `function_call` in place of `tool_calls`
    legacy_functions: bool = False
    # message of the thread that the answer follows; "" without a thread
    parent_message_id: str = ""

    def to_json(self) -> str:
        """Only what differs from the defaults."""
        told = {name: value for name, default in _DEFAULTS if (value := getattr(self, name)) != default}
        # the orchestrator reads `stream`, so it is always told
        return orjson.dumps({"stream": self.stream, **told}).decode()

    @classmethod
    def of(cls, started: RunStarted) -> Options:
        """Read them back; fields of newer versions are left out."""
        told: dict[str, Any] = orjson.loads(started.projection_json or b"{}")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in known})


_DEFAULTS = [(field.name, field.default) for field in fields(Options)]
