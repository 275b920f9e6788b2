"""ScopeService of control: what is erased is withdrawn from the services first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from control.access import Access
from control.changes import Changes
from control.keys import tell
from control.store import ERASABLE, ApiKeyEntry, feed
from fastchat.common.v1.scope_service_pb2 import (
    EraseScopeRequest,
    EraseScopeResponse,
    ExportScopeRequest,
    ExportScopeResponse,
    Scope,
)
from kit.db import Database, utc_now
from kit.db.scope import ScopeServicer


class ControlScopeServicer(ScopeServicer):
    """Exports and erases control's rows of a scope. The erasure itself stays in the caller's audit log."""

    def __init__(self, database: Database, changes: Changes, access: Access) -> None:
        super().__init__(database, ERASABLE, [self._withdraw])
        self._changes = changes
        self._access = access

    async def ExportScope(self, request: ExportScopeRequest, context: Any) -> AsyncIterator[ExportScopeResponse]:
        """ExportScope streams every row that the service holds in the scope."""
        await self._access.scope("scope.export", request.scope.tenant_id)
        async for row in super().ExportScope(request, context):
            yield row

    async def EraseScope(self, request: EraseScopeRequest, context: Any) -> EraseScopeResponse:
        """EraseScope removes every row that the service holds in the scope. Safe to repeat."""
        principal = await self._access.scope("scope.erase", request.scope.tenant_id)
        answer = await super().EraseScope(request, context)
        if not request.dry_run:
            async with self._changes.open(principal.tenant_id) as change:
                told = {"tenant": request.scope.tenant_id, "subject": request.scope.subject, "rows": dict(answer.rows)}
                await change.audit("scope.erase", "scope", request.scope.tenant_id, principal.tenant_id, told)
        return answer

    async def _withdraw(self, scope: Scope, dry_run: bool) -> Mapping[str, int]:
        """Tell services that the keys, and for a whole tenant everything, are gone; the rows go after this."""
        if dry_run:
            return {}
        async with self._changes.open(scope.tenant_id) as change:
            if not scope.subject:
                change.revision = await feed.withdraw(change.unit, scope.tenant_id)
                return {}
            for row in await change.unit.all(ApiKeyEntry, tenant_id=scope.tenant_id, subject=scope.subject):
                row.revoked_at = row.revoked_at or utc_now()
                await tell(change, row)
        return {}
