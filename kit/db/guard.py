"""The tenant predicate, added to everything that a tenant session does.

SELECT, UPDATE and DELETE through the ORM get `tenant_id = :tenant` on every TenantRow they mention, in subqueries,
joins and lazy loads too. Rows flushed must be the tenant's. What the guard cannot see into is refused: SQL text, the
table objects below the ORM, raw connections. PostgreSQL's row-level security stands behind it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from sqlalchemy import ClauseElement, Delete, Insert, SelectBase, Update, event, inspect
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria

from kit.db.rows import TenantRow
from kit.db.statements import TenantScopeError, refuse_subqueries, refuse_unscoped


class TenantSession(Session):
    """A session that sees one tenant. `info["tenant_id"]` names it; its absence is refused."""

    def connection(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a raw connection knows no tenant."""
        raise TenantScopeError("a tenant session gives no raw connection")

    def bulk_save_objects(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: it flushes past the checks."""
        raise TenantScopeError("use add_all in a tenant session")

    bulk_insert_mappings = bulk_save_objects
    bulk_update_mappings = bulk_save_objects


def tenant_of(session: Session) -> str:
    """Tenant of the session."""
    return str(session.info["tenant_id"])


@event.listens_for(TenantSession, "do_orm_execute")
def _scope_statement(state: ORMExecuteState) -> None:
    tenant_id = tenant_of(state.session)
    statement = state.statement
    if state.is_insert:
        _check_insert(state, tenant_id)
        return
    if not isinstance(statement, SelectBase | Update | Delete):
        raise TenantScopeError(f"a tenant session does not run {type(statement).__name__}")
    if not (state.is_column_load or state.is_relationship_load):  # those are the ORM's own, for rows already scoped
        refuse_unscoped(statement)
    if state.is_update and (isinstance(state.parameters, list) or _sets_tenant(statement)):
        raise TenantScopeError("an UPDATE names its rows in WHERE and may not move them to another tenant")
    # The lambda is cached by its code; `tenant_id` is tracked as a bound parameter, not baked in.
    state.statement = statement.options(
        with_loader_criteria(TenantRow, lambda cls: cls.tenant_id == tenant_id, include_aliases=True)
    )


def _sets_tenant(statement: Any) -> bool:
    return any(getattr(column, "key", column) == "tenant_id" for column in statement._values or {})


def _check_insert(state: ORMExecuteState, tenant_id: str) -> None:
    statement = state.statement
    if not isinstance(statement, Insert):
        raise TenantScopeError("a tenant session does not run SQL text")
    if "tenant_id" not in statement.table.c:
        return
    if statement.select is not None:
        raise TenantScopeError("INSERT ... SELECT cannot be scoped to a tenant")
    refuse_subqueries(statement)
    for row in _inserted(statement, state.parameters):
        if row.get("tenant_id") != tenant_id:
            raise TenantScopeError("an INSERT must name the session's tenant")
    _check_upsert(statement)


def _inserted(statement: Any, parameters: Any) -> Iterable[Mapping[str, Any]]:
    """Rows that the statement inserts, each column name -> value; values() apply to each row of the parameters."""
    fixed = _plain(statement._values or {})
    many = [_plain(row) for batch in statement._multi_values or () for row in batch]
    if many:
        return many
    rows = parameters if isinstance(parameters, list | tuple) else [parameters or {}]
    return [{**fixed, **_plain(row)} for row in rows]


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {getattr(column, "key", column): getattr(value, "value", value) for column, value in row.items()}


def _check_upsert(statement: Any) -> None:
    """ON CONFLICT DO UPDATE may only meet rows of the same tenant: its target must contain tenant_id."""
    for clause in statement._post_values_clause, *getattr(statement, "_post_values_clauses", ()):
        if clause is None or not hasattr(clause, "update_values_to_set"):
            continue
        target = [getattr(column, "name", column) for column in clause.inferred_target_elements or ()]
        changed = dict(clause.update_values_to_set)
        if "tenant_id" not in target or "tenant_id" in [getattr(column, "name", column) for column in changed]:
            raise TenantScopeError("the conflict target of an upsert must contain tenant_id, and not change it")
        for value in changed.values():
            if isinstance(value, ClauseElement):
                refuse_subqueries(value)


@event.listens_for(TenantSession, "before_flush")
def _check_flush(session: Session, context: UOWTransaction, instances: Any) -> None:
    tenant_id = tenant_of(session)
    for row in (*session.new, *session.dirty, *session.deleted):
        if not isinstance(row, TenantRow):
            continue
        if row.tenant_id is None and row in session.new:
            row.tenant_id = tenant_id
        if row.tenant_id != tenant_id or _moved(row, tenant_id):
            raise TenantScopeError(f"a row of {type(row).__name__} is another tenant's")


def _moved(row: TenantRow, tenant_id: str) -> bool:
    history = inspect(row).attrs.tenant_id.history
    return any(old != tenant_id for old in history.deleted if old is not None)


@event.listens_for(TenantSession, "detached_to_persistent")
def _refuse_detached(session: Session, row: Any) -> None:
    """A detached object's key was not read in this session, so its UPDATE would go wherever the key says."""
    if isinstance(row, TenantRow):
        raise TenantScopeError("a detached row cannot be added to a tenant session; read it again")
