"""Durable runs as callers see them: start, attach, look, cancel."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta

from fastchat.common.v1.event_pb2 import RunEvent
from fastchat.common.v1.principal_pb2 import Principal
from kit.bus import Bus
from kit.crypto import Keyring
from kit.db import utc_now
from kit.errors import PlatformError, Reason
from kit.paging import decode_token, encode_token, page_size
from orchestrator import lifecycle
from orchestrator.feed import RunKey
from orchestrator.follow import Follower
from orchestrator.readers import Readers
from orchestrator.requests import Accepted
from orchestrator.store import RunRow, RunStore
from orchestrator.turns import Turns


class Runs:
    """Durable runs of all replicas. Ids of another tenant are like absent ones: every read is by tenant."""

    def __init__(
        self,
        bus: Bus,
        store: RunStore,
        follower: Follower,
        readers: Readers,
        turns: Turns,
        keyring: Keyring,
    ) -> None:
        self._bus = bus
        self._store = store
        self._follower = follower
        self._readers = readers
        self._turns = turns
        self._keyring = keyring

    async def start(self, accepted: Accepted, principal: Principal) -> AsyncGenerator[list[RunEvent], None]:
        """Begins a run, or attaches to the one that has its id, and streams its events from the first."""
        if not self._bus.connected:
            text = "Runs that outlive their reader cannot begin now; plain completions can."
            raise PlatformError(Reason.DEPENDENCY_UNAVAILABLE, text, retry_after_s=2.0, dependency="bus")
        row = self._row(accepted, principal)
        queue = accepted.settings.preferences.thread_busy == "queue"
        existing = await self._turns.admit(row, principal, queue)
        async with aclosing(self._follower.attach(existing or row, 0)) as stream:
            async for events in stream:
                yield events

    async def attach(self, tenant_id: str, run_id: str, after: int) -> AsyncGenerator[list[RunEvent], None]:
        """Streams a run's events after a cursor."""
        async with aclosing(self._follower.attach(await self.get(tenant_id, run_id), after)) as stream:
            async for events in stream:
                yield events

    async def get(self, tenant_id: str, run_id: str) -> RunRow:
        """One run. RUN_NOT_FOUND."""
        row = await self._store.get(tenant_id, run_id)
        if row is None:
            raise PlatformError(Reason.RUN_NOT_FOUND, f"No such run: {run_id}", id=run_id)
        return row

    async def page(
        self, tenant_id: str, thread_id: str, active_only: bool, size: int, token: str
    ) -> tuple[list[RunRow], str]:
        """Runs, newest first, and the token of the next page."""
        limit = page_size(size)
        before = None
        if token:
            at, run_id = decode_token(token, 2)
            before = (_time(at), str(run_id))
        rows = await self._store.page(tenant_id, thread_id, active_only, limit + 1, before)
        if len(rows) <= limit:
            return rows, ""
        last = rows[limit - 1]
        return rows[:limit], encode_token(last.created_at.isoformat(), last.run_id)

    async def readers(self, rows: list[RunRow]) -> dict[RunKey, int]:
        """Readers, over all replicas, of those runs that have not ended."""
        return await self._readers.count([(row.tenant_id, row.run_id) for row in rows if row.ended_at is None])

    def _row(self, accepted: Accepted, principal: Principal) -> RunRow:
        request, now = accepted.request, utc_now()
        key_id, sealed = self._keyring.seal(request.tenant_id, request.SerializeToString(), request.run_id.encode())
        return RunRow(
            tenant_id=request.tenant_id,
            run_id=request.run_id,
            workspace_id=request.workspace_id,
            thread_id=request.thread_id,
            subject=principal.act_for or principal.subject,
            public_id=request.started.public_id,
            graph=request.started.graph,
            model_alias=request.call.model_alias,
            status=lifecycle.QUEUED,
            on_disconnect=accepted.on_disconnect,
            request=sealed,
            key_id=key_id,
            principal=principal.SerializeToString(),
            timeout_ms=int(accepted.timeout_s * 1000),
            created_at=now,
            touched_at=now,
            deadline_at=now + timedelta(seconds=accepted.timeout_s),
        )


def _time(text: str | int) -> datetime:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        raise PlatformError.invalid("page_token", "The page token is not one of ours.") from None
