"""Sending a run as server-sent events, and noticing that its reader left.

One ASGI send per event. The response is an ASGI application of its own: no generator, no task group between the
run's stream and the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Protocol, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge.projections import Projection, sse
from fastchat.common.v1.event_pb2 import RunEvent
from kit.errors import PlatformError, Reason
from kit.ids import new_uuid
from kit.telemetry import current_trace_id, get_logger, metrics

log = get_logger(__name__)

_STREAMS = metrics.counter("fastchat_streams_total", "Streams sent to clients, by how they ended.", ["outcome"])

_HEADERS = {"content-type": sse.CONTENT_TYPE, "cache-control": "no-cache", "x-accel-buffering": "no"}


class Source(Protocol):
    """A run that is being read: a turn, or a run attached to."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    async def read(self) -> list[RunEvent]:
        """The next events; empty after the last. Once `leave` was called: what that said, else CANCELLED."""
        ...

    def leave(self, why: PlatformError | None = None) -> None:
        """The reader is gone, or is to be told `why` it cannot stay."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Departure:
    """Leaves the run when the client's connection closes. Use it around everything that waits for the run."""

    def __init__(self, receive: Receive, source: Source) -> None:
        self._source = source
        self.happened = False
        self._task = asyncio.ensure_future(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        self._source.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._task.cancel()


class _Keepalive:
    """Pings on silence: clocked by one timer that is set anew when it fires, not with every frame."""

    def __init__(self, send: Send, interval_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None
        self.last = self._loop.time()
        self._timer = self._loop.call_later(interval_s, self._fire)

    def touch(self) -> None:
        """Something was sent."""
        self.last = self._loop.time()

    def _fire(self) -> None:
        due = self.last + self._interval_s
        now = self._loop.time()
        if due <= now:
            if self._task is None or self._task.done():
                self._task = self._loop.create_task(self._ping())
            self.last, due = now, now + self._interval_s
        self._timer = self._loop.call_at(due, self._fire)

    async def _ping(self) -> None:
        await self._send({"type": "http.response.body", "body": sse.PING, "more_body": True})

    def stop(self) -> None:
        """No more pings."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class RunStream(Response):
    """A run, as frames of a projection."""

    def __init__(
        self, source: Source, projection: Projection, headers: Mapping[str, str], keepalive_s: float, owned: ExitStack
    ) -> None:
        super().__init__(None, headers={**_HEADERS, **headers})
        # the length is not known
        del self.headers["content-length"]
        self._source = source
        self._projection = projection
        self._keepalive_s = keepalive_s
        # what is to be let go of when the stream ends
        self._owned = owned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        with self._owned:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                keepalive = _Keepalive(send, self._keepalive_s)
                try:
                    _STREAMS.labels(await self._pump(send, keepalive)).inc()
                finally:
                    keepalive.stop()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                await self._source.close()

    async def _pump(self, send: Send, keepalive: _Keepalive) -> str:
        """Send every frame -> completed, failed or left."""
        event = RunEvent()
        try:
            while not self._projection.done and (events := await self._source.read()):
                for event in events:
                    for frame in self._projection.feed(event):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
                keepalive.touch()
            if self._projection.done:
                return "failed" if event.HasField("error") else "completed"
            failure = PlatformError(Reason.RUN_INTERRUPTED, "The run's stream ended before the run did.")
        except PlatformError as error:
            if error.reason is Reason.CANCELLED:
                return "left"
            failure = error
        except Exception:
            log.exception("stream.failed", run_id=self._source.run_id)
            failure = PlatformError(Reason.INTERNAL, "Something went wrong on our side.", trace_id=current_trace_id())
        for frame in self._projection.feed(_failed(self._source, failure)):
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        return "failed"


def _failed(source: Source, failure: PlatformError) -> RunEvent:
    """A failure between the run and us, told like one of the run's."""
    event = RunEvent(event_id=new_uuid(), run_id=source.run_id, error=failure.to_event())
    event.time.GetCurrentTime()
    return event
