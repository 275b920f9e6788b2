"""A tenant session sees, changes and removes its tenant's rows, whatever is asked of it. On both engines."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Executable,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    table,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import aliased, join, selectinload

from kit.db import Database, TenantScopeError
from tests.unit.kit_data.tables import Box, Item, Note

pytestmark = pytest.mark.req("PR-030")

OtherBox = aliased(Box)
BOXES = Box.__table__


@pytest.fixture
async def filled(database: Database) -> Database:
    """Tenants a and b with a box and an item each, and a note of the platform."""
    for tenant in "ab":
        async with database.tenant(tenant) as session:
            session.add(Box(id=f"box-{tenant}", label=tenant))
            await session.flush()
            session.add(Item(id=f"item-{tenant}", box_id=f"box-{tenant}"))
    async with database.platform() as session:
        session.add(Note(id=1, text="for all"))
    return database


async def everything(database: Database) -> set[tuple[Any, ...]]:
    async with database.platform(read_only=True) as session:
        boxes = await session.execute(select(Box.id, Box.tenant_id, Box.label))
        items = await session.execute(select(Item.id, Item.tenant_id, Item.text))
        return {tuple(row) for row in (*boxes, *items)}


async def rows(database: Database, statement: Executable, tenant: str = "a") -> list[tuple[Any, ...]]:
    async with database.tenant(tenant) as session:
        return [tuple(row) for row in (await session.execute(statement)).all()]


def chain() -> Executable:
    """Boxes that are labelled with the id of another, from any box on."""
    first = select(Box.id, Box.label).where(Box.label != "").cte(recursive=True)
    return select(first.union(select(Box.id, Box.label).join(first, first.c.id == Box.label)).c.id)


READS: dict[str, tuple[Executable, list[tuple[Any, ...]]]] = {
    "columns": (select(Box.id), [("box-a",)]),
    "count": (select(func.count()).select_from(Box), [(1,)]),
    "aggregate": (select(func.max(Box.id)), [("box-a",)]),
    "alias": (select(OtherBox.id), [("box-a",)]),
    "join": (select(Box.id, Item.id).join(Item, Item.box_id != Box.id, isouter=True), [("box-a", None)]),
    "exists": (select(exists().where(Box.id == "box-b")), [(False,)]),
    "scalar subquery": (select(select(Box.label).where(Box.id == "box-b").scalar_subquery()), [(None,)]),
    "subquery": (select(select(Box.id).subquery().c.id), [("box-a",)]),
    "cte": (select(select(Box.id).cte().c.id), [("box-a",)]),
    "union": (select(Box.id).union_all(select(Item.id)), [("box-a",), ("item-a",)]),
    "relationship": (select(Box.id).where(Box.items.any(Item.id == "item-b")), []),
    "relationship back": (select(Item.id).where(Item.box.has(Box.label == "a")), [("item-a",)]),
    "recursive cte": (chain(), [("box-a",)]),
    "condition only": (select(literal(1)).where(Box.id == "box-b"), []),
    "platform table": (select(Note.text), [("for all",)]),
}


async def test_reads_see_the_own_rows_only(filled: Database) -> None:
    seen = {name: await rows(filled, statement) for name, (statement, _) in READS.items()}
    assert seen == {name: expected for name, (_, expected) in READS.items()}


REFUSED: dict[str, Callable[[], Executable]] = {
    "text": lambda: text("select id from boxes"),
    "text in a condition": lambda: select(Box.id).where(text("1 = 1")),
    "text as a source": lambda: select(Box).from_statement(text("select * from boxes")),
    "table": lambda: select(BOXES.c.id),
    "table as a source": lambda: select(func.count()).select_from(BOXES),
    "alias of a table": lambda: select(BOXES.alias().c.id),
    "join of a table": lambda: select(Box.id).join(Item.__table__, true()),
    "join object": lambda: select(Box.id).select_from(join(Box, Item)),
    "table made up": lambda: select(table("boxes", column("id"))),
    "relationship below a source": lambda: select(select(literal(1)).where(Box.items.any()).subquery()),
    "table below an exists": lambda: select(Item.id).where(exists(select(BOXES.c.id).correlate_except(BOXES))),
    "table below a union": lambda: select(Box.id).union_all(select(BOXES.c.id)),
    "update of a table": lambda: update(BOXES).values(label="x"),
    "update with a second table": lambda: update(Box).where(Box.id == Item.box_id).values(label="x"),
    "update of the tenant": lambda: update(Box).values(tenant_id="b"),
    "delete with a second table": lambda: delete(Box).where(Box.id == Item.box_id),
    "insert for another": lambda: insert(Box).values(id="x", tenant_id="b"),
    "insert for nobody": lambda: insert(Box).values(id="x"),
    "insert of a table": lambda: insert(BOXES).values(id="x", tenant_id="b"),
    "insert of many": lambda: insert(Box).values([{"id": "x", "tenant_id": "a"}, {"id": "y", "tenant_id": "b"}]),
    "insert from a select": lambda: insert(Box).from_select(["id", "tenant_id"], select(literal("x"), literal("a"))),
    "insert of a subquery": lambda: insert(Box).values(
        id="x", tenant_id="a", label=select(BOXES.c.label).limit(1).scalar_subquery()
    ),
}


async def test_what_cannot_be_scoped_is_refused(filled: Database) -> None:
    async def runs(statement: Executable) -> bool:
        try:
            await rows(filled, statement)
        except TenantScopeError:
            return False
        return True

    before = await everything(filled)
    assert [name for name, made in REFUSED.items() if await runs(made())] == []
    assert await everything(filled) == before


async def test_updates_and_deletes_reach_the_own_rows_only(filled: Database) -> None:
    assert await rows(filled, update(Box).values(label="new").returning(Box.id)) == [("box-a",)]
    in_items = Box.id.in_(select(Item.box_id))
    assert await rows(filled, update(Box).where(in_items).values(label="2").returning(Box.id)) == [("box-a",)]
    assert await rows(filled, delete(Item).returning(Item.id)) == [("item-a",)]
    assert await everything(filled) == {("box-a", "a", "2"), ("box-b", "b", "b"), ("item-b", "b", "")}


async def test_objects_of_another_tenant_are_absent(filled: Database) -> None:
    async with filled.tenant("a", read_only=True) as session:
        assert await session.get(Box, "box-b") is None
        boxes = (await session.execute(select(Box).options(selectinload(Box.items)))).scalars().all()
        assert [(box.id, [item.id for item in box.items]) for box in boxes] == [("box-a", ["item-a"])]


async def test_lazy_loads_are_scoped_for_rows_just_written(filled: Database) -> None:
    async with filled.platform() as session:
        session.add(Item(id="stray", box_id="box-a", tenant_id="b"))
    async with filled.tenant("a") as session:
        box = await session.get(Box, "box-a")
        assert box is not None
        items = await session.run_sync(lambda _: [item.id for item in box.items])
    assert items == ["item-a"]


async def test_rows_of_another_tenant_cannot_be_flushed(filled: Database) -> None:
    async def add() -> None:
        async with filled.tenant("a") as session:
            session.add(Box(id="x", tenant_id="b"))

    async def move() -> None:
        async with filled.tenant("a") as session:
            box = (await session.execute(select(Box))).scalar_one()
            box.tenant_id = "b"

    async def smuggle() -> None:
        async with filled.tenant("b") as session:
            theirs = (await session.execute(select(Box))).scalar_one()
        async with filled.tenant("a") as session:
            session.add(theirs)

    before = await everything(filled)
    for attempt in (add, move, smuggle):
        with pytest.raises(TenantScopeError):
            await attempt()
    assert await everything(filled) == before


async def test_bulk_doors_are_closed(filled: Database) -> None:
    with pytest.raises(TenantScopeError):
        async with filled.tenant("a") as session:
            await session.execute(update(Box), [{"id": "box-b", "label": "x"}])
    with pytest.raises(TenantScopeError):
        async with filled.tenant("a") as session:
            await session.execute(insert(Box), [{"id": "x", "tenant_id": "a"}, {"id": "y", "tenant_id": "b"}])
    with pytest.raises(TenantScopeError):
        async with filled.tenant("a") as session:
            await session.connection()
    with pytest.raises(TenantScopeError):
        async with filled.tenant("a") as session:
            await session.run_sync(lambda sync: sync.bulk_save_objects([Box(id="x")]))


async def test_an_upsert_cannot_meet_another_tenants_row(filled: Database) -> None:
    dialect_insert: Any = sqlite_insert if filled.sqlite else postgres_insert
    values = {"id": "box-b", "tenant_id": "a", "label": "x", "subject": ""}
    upsert = dialect_insert(Box).values(values).on_conflict_do_update(index_elements=["id"], set_={"label": "x"})
    with pytest.raises(TenantScopeError):
        await rows(filled, upsert)
    ignore = dialect_insert(Box).values(values).on_conflict_do_nothing().returning(Box.id)
    assert await rows(filled, ignore) == []


async def test_a_session_without_a_tenant_is_refused(filled: Database) -> None:
    with pytest.raises(ValueError, match="needs a tenant"):
        async with filled.tenant(""):
            pass


async def test_rows_tell_their_class_and_tenant_by_themselves(filled: Database) -> None:
    async with filled.tenant("a", read_only=True) as session:
        box = await session.get(Box, "box-a")
    assert box is not None
    assert (box.tenant_id, box.data_class, box.key_id) == ("a", Box.DATA_CLASS, "")
    assert box.created_at.utcoffset() is not None


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_postgres_hides_rows_even_from_raw_sql(filled: Database) -> None:
    """Row-level security stands behind the session: here is what a way around the session would see."""
    async with filled._writer.connect() as connection:
        nothing_set = await connection.execute(text("select id from boxes"))
        assert nothing_set.all() == []
        await connection.execute(text("select set_config('fastchat.tenant_id', 'a', true)"))
        assert (await connection.execute(text("select id from boxes"))).all() == [("box-a",)]
        changed = await connection.execute(text("update boxes set label = 'x'"))
        assert changed.rowcount == 1


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_postgres_forgets_the_tenant_when_the_transaction_ends(filled: Database) -> None:
    async with filled.tenant("a"):
        pass
    async with filled._writer.connect() as connection:
        setting = await connection.execute(text("select current_setting('fastchat.tenant_id', true)"))
        assert setting.scalar() in (None, "")
