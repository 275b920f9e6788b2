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
from sqlalchemy.sql.selectable import AliasedReturnsRows

Tables = frozenset[Any]


class TenantScopeError(RuntimeError):
    """Code tried to leave its tenant: a defect of ours, never the client's. Becomes INTERNAL."""


def refuse_unscoped(statement: ClauseElement) -> None:
    """TenantScopeError for a SELECT, UPDATE or DELETE with a part that the tenant predicate would not reach."""
    _refuse_unscoped(statement, frozenset())
    if isinstance(statement, Update | Delete):
        _refuse_second_table(statement)


def _refuse_unscoped(element: Any, around: Tables) -> None:
    """Check an element and everything in it. `around`: tables scoped in the statements that it is nested in."""
    if isinstance(element, TextClause):
        raise TenantScopeError("SQL text cannot be scoped to a tenant")
    if isinstance(element, Join):
        raise TenantScopeError("join with select().join(), which is scoped, not with a join object")
    if isinstance(element, AliasedReturnsRows):
        around = frozenset()  # what stands in FROM does not correlate
    elif isinstance(element, Select):
        parts = (*element._raw_columns, *element._from_obj, *(target for target, *_ in element._setup_joins))
        # Relationship.any() and has() name the outer table bare, and say that they correlate.
        outer = around if element._correlate_except is not None else frozenset()
        around |= _refuse_bare_tables(element, parts, outer)
    elif isinstance(element, Update | Delete):
        around |= _refuse_bare_tables(element, (element.table,), frozenset())
    for child in element.get_children():
        _refuse_unscoped(child, around)


def refuse_subqueries(statement: ClauseElement) -> None:
    """TenantScopeError for a subquery or text inside an INSERT: criteria do not reach there."""
    for element in visitors.iterate(statement):
        if isinstance(element, SelectBase | TextClause):
            raise TenantScopeError("an INSERT in a tenant session takes plain values")


def _refuse_bare_tables(statement: ClauseElement, parts: Iterable[Any], outer: Tables) -> Tables:
    """Refuse tables of tenants among the statement's own `parts` and columns, unless their class is there too.

    Returns the tables that are scoped.
    """
    named = [element for part in parts for element in (part, *_columns(part))]
    scoped = frozenset(_table_of(element) for element in named if "parententity" in element._annotations)
    for element in (*named, *_columns(statement)):
        table = _table_of(element)
        if table is None or "parententity" in element._annotations or not _holds_tenants(table):
            continue
        if table not in scoped and table not in outer:
            raise TenantScopeError(f"{getattr(table, 'name', table)} must be queried through its class")
    return scoped


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
