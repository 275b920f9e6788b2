"""ExportScope and EraseScope over a service's tables (PR-028, spec 11.2)."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import grpc
from sqlalchemy import ColumnElement, Select, delete, func, inspect, select, tuple_

from fastchat.common.v1.scope_service_pb2 import (
    EraseScopeRequest,
    EraseScopeResponse,
    ExportScopeRequest,
    ExportScopeResponse,
    Scope,
)
from fastchat.common.v1.scope_service_pb2_grpc import ScopeServiceServicer
from kit.db.database import Database
from kit.db.rows import TenantRow
from kit.errors import PlatformError, Reason
from kit.principal import ADMIN, PLATFORM, current, has_scope, require_scope

Table = type[TenantRow]
Eraser = Callable[[Scope, bool], Awaitable[Mapping[str, int]]]
"""Erases what is not in SQL (logs, blobs): (scope, dry_run) -> what was (or would be) removed, by name."""
Export = Callable[[TenantRow], Mapping[str, Any]]
"""A row as it is told, column -> value: opens what the row has sealed."""

_PAGE = 200


class ScopeServicer(ScopeServiceServicer):
    """Tells and erases what the service holds about a tenant, or about one of its subjects.

    `tables` are in an order in which their rows can be erased. A table without SUBJECT_COLUMN has no rows about a
    subject. Callers need the scope admin and their own tenant, or the scope platform; to erase, the role admin too:
    operators hold the scope, and look after a tenant without owning its data.
    """

    def __init__(
        self,
        database: Database,
        tables: Sequence[Table],
        erasers: Sequence[Eraser] = (),
        export: Export = TenantRow.export,
    ) -> None:
        self._database = database
        self._tables = tables
        self._erasers = erasers
        self._export = export

    async def ExportScope(  # gRPC's name
        self, request: ExportScopeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ExportScopeResponse]:
        """Stream every row of the scope, table by table, in order of key."""
        scope = _checked(request.scope)
        for table in self._tables:
            if _concerns(table, scope):
                async for row in self._rows(table, scope):
                    yield self._told(row)

    async def EraseScope(  # gRPC's name
        self, request: EraseScopeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> EraseScopeResponse:
        """Remove every row of the scope in one transaction, after everything that is not in SQL."""
        scope = _checked(request.scope)
        _require_owner()
        removed: dict[str, int] = {}
        for erase in self._erasers:
            removed.update(await erase(scope, request.dry_run))
        async with self._database.tenant(scope.tenant_id, read_only=request.dry_run) as session:
            for table in self._tables:
                if not _concerns(table, scope):
                    continue
                # Counted first: a DELETE's own count is not to be had alike on both engines.
                count = select(func.count()).select_from(table).where(*_about(table, scope))
                removed[self._name(table)] = (await session.execute(count)).scalar_one()
                if not request.dry_run:
                    gone = delete(table).where(*_about(table, scope)).execution_options(synchronize_session=False)
                    await session.execute(gone)
        return EraseScopeResponse(rows=removed)

    async def _rows(self, table: Table, scope: Scope) -> AsyncIterator[TenantRow]:
        """All rows, a page a transaction: an export may take long, and holds nobody up."""
        keys = list(inspect(table).primary_key)
        columns = [getattr(table, inspect(table).get_property_by_column(key).key) for key in keys]
        last: tuple[Any, ...] | None = None
        while True:
            query: Select[Any] = select(table).where(*_about(table, scope)).order_by(*columns).limit(_PAGE)
            if last is not None:
                query = query.where(tuple_(*columns) > last)
            async with self._database.tenant(scope.tenant_id, read_only=True) as session:
                rows = list((await session.execute(query)).scalars())
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            last = tuple(getattr(rows[-1], column.key) for column in columns)

    def _told(self, row: TenantRow) -> ExportScopeResponse:
        identity = inspect(row).identity or ()
        told = ExportScopeResponse(
            table=self._name(type(row)),
            row_id="/".join(str(part) for part in identity),
            data_class=row.data_class,  # type: ignore[arg-type]  # the column holds the enum's number
            key_id=row.key_id,
            row_json=json.dumps({name: _plain(value) for name, value in self._export(row).items()}),
        )
        created = getattr(row, "created_at", None)
        if isinstance(created, datetime):
            told.create_time.FromDatetime(created)
        return told

    def _name(self, table: Table) -> str:
        return f"{self._database.service}.{inspect(table).local_table.name}"


def _checked(scope: Scope) -> Scope:
    if not scope.tenant_id:
        raise PlatformError.invalid("scope.tenant_id", "The scope names no tenant.")
    principal = require_scope(ADMIN)
    if scope.tenant_id != principal.tenant_id and not has_scope(principal, PLATFORM):
        raise PlatformError(Reason.POLICY_DENIED, "The request is for another tenant.", rule="tenant-guard")
    return scope


def _require_owner() -> None:
    principal = current()
    if "admin" not in principal.roles and not has_scope(principal, PLATFORM):
        raise PlatformError(Reason.POLICY_DENIED, "Only an admin may erase.", rule="scope-erase-admin")


def _concerns(table: Table, scope: Scope) -> bool:
    return not scope.subject or bool(table.SUBJECT_COLUMN)


def _about(table: Table, scope: Scope) -> list[ColumnElement[bool]]:
    return [getattr(table, table.SUBJECT_COLUMN) == scope.subject] if scope.subject else []


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return value
