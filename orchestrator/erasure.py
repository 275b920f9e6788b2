"""Erasing what runs leave outside SQL: their logs."""

from __future__ import annotations

from collections.abc import Mapping

from fastchat.common.v1.scope_service_pb2 import Scope
from kit.eventlog import EventLog, LogKey
from orchestrator.store import RunStore


class LogEraser:
    """Removes the logs of a tenant's runs, or of those of one subject.

    A run that is being executed ends with it: its owner's next append is refused, and its next owner finds no run.
    """

    def __init__(self, event_log: EventLog, store: RunStore) -> None:
        self._log = event_log
        self._store = store

    async def __call__(self, scope: Scope, dry_run: bool) -> Mapping[str, int]:
        """How many logs were (or would be) removed."""
        keys = await self._log.runs(scope.tenant_id)
        if scope.subject:
            theirs = await self._store.of_subject(scope.tenant_id, scope.subject)
            keys = [LogKey(scope.tenant_id, key.run_id) for key in keys if key.run_id in theirs]
        if not dry_run:
            for key in keys:
                await self._log.purge(key)
        return {"orchestrator.run_logs": len(keys)}
