"""/v1/runs: durable runs, to look at, to stop, and to read again from any point."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.api.chat import EVENTS_HEADER, RUN_HEADER
from edge.api.streams import Departure, RunStream
from edge.auth import identity
from edge.openai.fields import wrong_value
from edge.openai.render import usage_json
from edge.permission import Permission
from edge.projections import ChatProjection, EnvelopeProjection, Projection
from edge.projections.resumed import Resumed
from edge.run_access import RunAccess
from edge.run_reader import RunReader, attached
from fastchat.common.v1.event_pb2 import RunEvent
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.orchestrator.v1 import run_service_pb2 as pb
from kit.errors import PlatformError

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


class AttachedRun:
    """A run read by somebody who came later."""

    def __init__(self, run_id: str, reader: RunReader) -> None:
        self.run_id = run_id
        self._reader = reader
        self._first: list[RunEvent] = []

    async def open(self) -> None:
        """Wait for the first events: raises when there is no such run."""
        self._first = await self._reader.read()

    async def read(self) -> list[RunEvent]:
        """The next events; empty after the last."""
        if self._first:
            first, self._first = self._first, []
            return first
        return await self._reader.read()

    def leave(self, why: PlatformError | None = None) -> None:
        """The reader is gone, or is to be told `why` it cannot stay; the run goes on."""
        self._reader.leave(why)

    async def close(self) -> None:
        """Let go of the call."""
        self._reader.close()


def router(deps: EdgeDeps) -> APIRouter:
    """The routes of runs."""
    routes = APIRouter(prefix="/v1/runs", tags=["runs"])
    permission = Permission(deps.policy, deps.audit)
    access = RunAccess(deps.clients, deps.threads)

    async def allowed(request: Request, action: str, run_id: str) -> Principal:
        principal = identity(request.scope).principal
        await permission.require(principal, action, "Run", run_id)
        return principal

    @routes.get("/{run_id}", response_model=None)
    async def get_run(request: Request, run_id: str) -> Response:
        """Where a run stands."""
        principal = await allowed(request, "run.read", run_id)
        return _json(run_json(await access.get(principal, run_id)))

    @routes.post("/{run_id}/cancel", response_model=None)
    async def cancel_run(request: Request, run_id: str) -> Response:
        """Stop a run: its stream ends, and what it had is kept."""
        principal = await allowed(request, "run.cancel", run_id)
        return _json(run_json(await access.cancel(principal, run_id)))

    @routes.get("/{run_id}/events", response_model=None)
    async def read_events(request: Request, run_id: str) -> Response:
        """Read a run as a stream, after frame `starting_after` (or the header Last-Event-ID).

        Envelopes; with the header `X-Fastchat-Events: named`, the chunks that its first reader was sent.
        """
        principal = await allowed(request, "run.read", run_id)
        after = _cursor(request)
        await access.check(principal, run_id)
        with ExitStack() as owned:
            owned.enter_context(deps.limits.stream(identity(request.scope)))
            run = AttachedRun(run_id, attached(deps.clients, principal, run_id))
            owned.enter_context(Departure(request.receive, run))
            owned.enter_context(deps.answers.running(run))
            try:
                await run.open()
            except BaseException:
                await run.close()
                raise
            projection: Projection = ChatProjection() if _wants_chunks(request) else EnvelopeProjection()
            headers = {RUN_HEADER: run_id}
            return RunStream(run, Resumed(projection, after), headers, deps.config.keepalive_s, owned.pop_all())

    return routes


def run_json(run: pb.Run) -> dict[str, Any]:
    """A run as front ends read it."""
    ended = run.HasField("end_time")
    return {
        "id": run.run_id,
        "object": "run",
        "thread_id": run.thread_id or None,
        "status": pb.RunStatus.Name(run.status).removeprefix("RUN_STATUS_").lower(),
        "model": run.model_alias,
        "graph": run.graph,
        "public_id": run.public_id or None,
        "usage": usage_json(run.usage) if ended else None,
        "created_at": run.create_time.ToJsonString(),
        "ended_at": run.end_time.ToJsonString() if ended else None,
    }


def _cursor(request: Request) -> int:
    text = request.query_params.get("starting_after") or request.headers.get("last-event-id") or "0"
    if not text.isdecimal() or len(text) > 18:
        wrong_value("starting_after", f"expected the number of a frame, but got '{text[:32]}' instead.")
    return int(text)


def _wants_chunks(request: Request) -> bool:
    mode = request.headers.get(EVENTS_HEADER, "envelope").strip().lower()
    if mode not in ("named", "envelope"):
        wrong_value("X-Fastchat-Events", "expected named or envelope.")
    return mode == "named"


def _json(value: dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
