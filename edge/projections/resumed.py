"""Going on after a frame that the reader has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.projections import sse
from fastchat.common.v1.event_pb2 import RunEvent
from kit.errors import PlatformError, Reason

if TYPE_CHECKING:
    from edge.projections import Projection


class Resumed:
    """A projection without its first `after` frames. It folds from event 1 all the same.

    A cursor past the end is CURSOR_AHEAD, told in the stream.
    """

    def __init__(self, projection: Projection, after: int) -> None:
        self._projection = projection
        self._after = after

    @property
    def number(self) -> int:
        """Frames made so far, skipped ones included."""
        return self._projection.number

    @property
    def done(self) -> bool:
        """Whether the stream has ended."""
        return self._projection.done

    def feed(self, event: RunEvent) -> list[bytes]:
        """The frames that the event adds and the reader does not have."""
        before = self._projection.number
        frames = self._projection.feed(event)
        fresh = frames[max(0, self._after - before) :]
        if self._projection.done and self._projection.number < self._after:
            ahead = PlatformError(
                Reason.CURSOR_AHEAD, "The cursor lies past the run's last frame.", last=str(self._projection.number)
            )
            return [sse.error(ahead), sse.DONE]
        return fresh
