"""A tenant's runs are told and erased, rows and logs."""

from __future__ import annotations

import pytest

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2 import EraseScopeRequest, ExportScopeRequest, Scope
from kit.errors import PlatformError, Reason
from kit.principal import acting_as
from tests.unit.orchestrator.samples import start_request
from tests.unit.orchestrator.world import Replica, World, collect, ended, member

pytestmark = [pytest.mark.req("PR-028"), pytest.mark.req("PR-030")]

ADMIN = Principal(tenant_id="t1", subject="user:admin", roles=["admin"], scopes=["admin"])


async def run(replica: Replica, subject: str, tenant_id: str = "t1") -> str:
    who = member(tenant_id)
    who.subject = subject
    request = start_request(durable=True, tenant_id=tenant_id)
    await collect(replica.start(request, who))
    await ended(replica, request.run_id, tenant_id)
    return request.run_id


async def erased(replica: Replica, scope: Scope, dry_run: bool = False) -> dict[str, int]:
    with acting_as(ADMIN):
        return dict((await replica.scopes.EraseScope(EraseScopeRequest(scope=scope, dry_run=dry_run))).rows)


async def test_a_subjects_runs_go_with_their_logs_and_others_stay(world: World) -> None:
    replica = await world.replica()
    hers, his, theirs = await run(replica, "user:a"), await run(replica, "user:b"), await run(replica, "user:a", "t2")
    scope = Scope(tenant_id="t1", subject="user:a")
    assert (await erased(replica, scope, dry_run=True))["orchestrator.run_logs"] == 1
    assert (await erased(replica, scope))["orchestrator.runs"] == 1
    assert (await erased(replica, scope))["orchestrator.run_logs"] == 0
    with pytest.raises(PlatformError) as caught:
        await collect(replica.attach(hers))
    assert caught.value.reason is Reason.RUN_NOT_FOUND
    assert await collect(replica.attach(his))
    assert await collect(replica.attach(theirs, tenant_id="t2"))


async def test_an_export_tells_the_runs_of_its_tenant_only(world: World) -> None:
    replica = await world.replica()
    mine = await run(replica, "user:a")
    await run(replica, "user:a", "t2")
    with acting_as(ADMIN):
        rows = [row async for row in replica.scopes.ExportScope(ExportScopeRequest(scope=Scope(tenant_id="t1")))]
    assert [row.row_id for row in rows if row.table == "orchestrator.runs"] == [f"t1/{mine}"]
    assert all(row.key_id for row in rows if row.table == "orchestrator.runs")
