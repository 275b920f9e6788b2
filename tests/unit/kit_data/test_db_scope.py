"""ExportScope and EraseScope."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2 import EraseScopeRequest, ExportScopeRequest, ExportScopeResponse, Scope
from kit.db import Database
from kit.db.scope import ScopeServicer
from kit.errors import PlatformError, Reason
from kit.principal import acting_as, service_principal
from tests.unit.kit_data.tables import Box, Item

pytestmark = pytest.mark.req("PR-028")
CONTEXT: Any = None


@pytest.fixture
async def scope(database: Database) -> AsyncIterator[ScopeServicer]:
    """Tenant a with 450 boxes of two subjects and an item; tenant b with one box. Called by the platform."""
    async with database.tenant("a") as session:
        session.add_all(Box(id=f"box-{n:03}", subject="me" if n % 2 else "you") for n in range(450))
        await session.flush()
        session.add(Item(id="item", box_id="box-000"))
    async with database.tenant("b") as session:
        session.add(Box(id="other", subject="me"))
    with acting_as(service_principal("control")):
        yield ScopeServicer(database, [Item, Box])


async def export(servicer: ScopeServicer, tenant: str, subject: str = "") -> list[ExportScopeResponse]:
    request = ExportScopeRequest(scope=Scope(tenant_id=tenant, subject=subject))
    return [row async for row in servicer.ExportScope(request, CONTEXT)]


async def erase(servicer: ScopeServicer, tenant: str, subject: str = "", *, dry_run: bool = False) -> dict[str, int]:
    request = EraseScopeRequest(scope=Scope(tenant_id=tenant, subject=subject), dry_run=dry_run)
    return dict((await servicer.EraseScope(request, CONTEXT)).rows)


async def test_an_export_tells_every_row_of_the_tenant_once(scope: ScopeServicer) -> None:
    told = await export(scope, "a")
    assert len({(row.table, row.row_id) for row in told}) == len(told) == 451
    box = next(row for row in told if row.row_id == "box-001")
    assert (box.table, box.data_class) == ("box.boxes", Box.DATA_CLASS)
    assert json.loads(box.row_json)["subject"] == "me"
    assert box.create_time.seconds > 0


async def test_an_export_of_a_person_tells_their_rows(scope: ScopeServicer) -> None:
    told = await export(scope, "a", "me")
    assert len(told) == 225
    assert {json.loads(row.row_json)["subject"] for row in told} == {"me"}


async def test_erasing_counts_first_and_is_safe_to_repeat(scope: ScopeServicer) -> None:
    everything = {"box.boxes": 450, "box.items": 1}
    assert await erase(scope, "a", dry_run=True) == everything
    assert await erase(scope, "a") == everything
    assert await erase(scope, "a") == {"box.boxes": 0, "box.items": 0}
    assert await export(scope, "a") == []
    assert len(await export(scope, "b")) == 1


async def test_erasing_a_person_leaves_the_others(scope: ScopeServicer) -> None:
    assert await erase(scope, "a", "me") == {"box.boxes": 225}
    assert len(await export(scope, "a")) == 226


async def test_what_is_not_in_sql_is_erased_too(database: Database) -> None:
    async def logs(scope: Scope, dry_run: bool) -> dict[str, int]:
        return {"box.logs": 3}

    with acting_as(service_principal("control")):
        assert (await erase(ScopeServicer(database, [Box], [logs]), "a"))["box.logs"] == 3


async def test_only_the_tenants_admin_or_the_platform_may(scope: ScopeServicer) -> None:
    for scopes, tenant, reason in (
        (["chat"], "a", Reason.MISSING_SCOPE),
        (["admin"], "b", Reason.POLICY_DENIED),
        (["admin"], "", Reason.INVALID_ARGUMENT),
    ):
        with acting_as(Principal(tenant_id="a", subject="key:1", scopes=scopes)):
            with pytest.raises(PlatformError) as caught:
                await export(scope, tenant)
            assert caught.value.reason is reason
            with pytest.raises(PlatformError):
                await erase(scope, tenant)
    with acting_as(Principal(tenant_id="a", subject="key:1", scopes=["admin"])):
        assert len(await export(scope, "a")) == 451


async def test_an_operator_sees_but_does_not_erase(scope: ScopeServicer) -> None:
    with acting_as(Principal(tenant_id="a", subject="key:1", roles=["operator"], scopes=["admin"])):
        assert len(await export(scope, "a")) == 451
        with pytest.raises(PlatformError) as caught:
            await erase(scope, "a")
    assert caught.value.reason is Reason.POLICY_DENIED
