"""RunEvents -> what clients read: pure, deterministic folds from event 1.

Whatever a projection needs to be the same twice is in the run's first event, so any replica
continues any reader exactly. Each projection numbers its own frames.
"""

from __future__ import annotations

from typing import Protocol

from edge.projections.chat import ChatProjection
from edge.projections.envelope import EnvelopeProjection
from edge.projections.options import PROJECTION_VERSION, Options
from fastchat.common.v1.event_pb2 import RunEvent

__all__ = ["PROJECTION_VERSION", "ChatProjection", "EnvelopeProjection", "Options", "Projection", "projection_for"]


class Projection(Protocol):
    """A fold of one run's events into server-sent events."""

    @property
    def number(self) -> int:
        """Frames made so far, without the sentinel: the number of the last one."""
        ...

    @property
    def done(self) -> bool:
        """Whether the stream has ended, sentinel included."""
        ...

    def feed(self, event: RunEvent) -> list[bytes]:
        """The frames that the event adds. Events come from number 1, without gaps."""
        ...


def projection_for(options: Options) -> Projection:
    """The projection that a chat reader with these options wants."""
    return EnvelopeProjection() if options.events == "envelope" else ChatProjection(options)
