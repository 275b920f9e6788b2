"""Which statements the tenant predicate reaches.

SQLAlchemy adds loader criteria wherever a mapped class is named: columns, subqueries, EXISTS, set operations, CTEs,
`select().join()`. It does not where a table is named below its class, inside a join object, or as a second table of
UPDATE and DELETE; such statements are refused, never run unscoped.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import (
    Alias,
    ClauseElement,
    ColumnClause,
    Delete,
    Join,
    Select,
    SelectBase,
    TableClause,
    TextClause,
    Update,
)
from sqlalchemy.sql import visitors


class TenantScopeError(RuntimeError):
    """Code tried to leave its tenant: a defect of ours, never the client's. Becomes INTERNAL."""


def refuse_unscoped(statement: ClauseElement) -> None:
    """TenantScopeError for a SELECT, UPDATE or DELETE with a part that the tenant predicate would not reach."""
    for element in visitors.iterate(statement):
        if isinstance(element, TextClause):
            raise TenantScopeError("SQL text cannot be scoped to a tenant")
        if isinstance(element, Join):
            raise TenantScopeError("join with select().join(), which is scoped, not with a join object")
        if isinstance(element, Select):
            parts = (*element._raw_columns, *element._from_obj, *(target for target, *_ in element._setup_joins))
            _refuse_bare_tables(element, parts)
        elif isinstance(element, Update | Delete):
            _refuse_bare_tables(element, (element.table,))
    if isinstance(statement, Update | Delete):
        _refuse_second_table(statement)


def refuse_subqueries(statement: ClauseElement) -> None:
    """TenantScopeError for a subquery or text inside an INSERT: criteria do not reach there."""
    for element in visitors.iterate(statement):
        if isinstance(element, SelectBase | TextClause):
            raise TenantScopeError("an INSERT in a tenant session takes plain values")


def _refuse_bare_tables(statement: ClauseElement, parts: Iterable[Any]) -> None:
    """Refuse tables of tenants among the statement's own `parts` and columns, unless their class is there too."""
    named = [element for part in parts for element in (part, *_columns(part))]
    scoped = {_table_of(element) for element in named if "parententity" in element._annotations}
    for element in (*named, *_columns(statement)):
        table = _table_of(element)
        if table is None or "parententity" in element._annotations or not _holds_tenants(table):
            continue
        if table not in scoped:
            raise TenantScopeError(f"{getattr(table, 'name', table)} must be queried through its class")


def _table_of(element: Any) -> Any:
    """The table that an element is, or that a column belongs to; without annotations, so that equal means same."""
    table = element.table if isinstance(element, ColumnClause) else element
    if not isinstance(table, Alias | TableClause):
        return None
    return table._deannotate()


def _holds_tenants(table: Any) -> bool:
    while isinstance(table, Alias):
        table = table.element
    # A TableClause that is no Table was made up on the spot: its columns say nothing.
    return isinstance(table, TableClause) and ("tenant_id" in table.c or not hasattr(table, "metadata"))


def _refuse_second_table(statement: Update | Delete) -> None:
    for column in _columns(statement):
        table = column.table
        if (
            table is not None
            and _holds_tenants(table)
            and getattr(table, "name", "") != getattr(statement.table, "name", "")
        ):
            raise TenantScopeError("UPDATE and DELETE name other tables in subqueries only")


def _columns(element: Any) -> Iterator[Any]:
    """Columns in the element, but for those in its subqueries."""
    for child in element.get_children():
        if isinstance(child, ColumnClause):
            yield child
        elif not isinstance(child, SelectBase):
            yield from _columns(child)
