"""Deleting a thread stops the run that works on it."""

from __future__ import annotations

from edge.clients import Clients, told
from edge.threads import Threads
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.gateway.v1.thread_service_pb2 import Thread
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from kit.errors import PlatformError, Reason
from kit.principal import acting_as
from kit.telemetry import get_logger

log = get_logger(__name__)


async def delete_with_run(clients: Clients, threads: Threads, principal: Principal, thread_id: str) -> Thread:
    """Remove a thread with its messages; tells how it was. Its run, if one is active, is cancelled."""
    thread = await threads.delete(principal, thread_id)
    if thread.active_run_id:
        await _cancel(clients, principal, thread.active_run_id)
    return thread


async def _cancel(clients: Clients, principal: Principal, run_id: str) -> None:
    request = runs_pb.CancelRunRequest(tenant_id=principal.tenant_id, run_id=run_id, cause="thread deleted")
    try:
        with acting_as(principal):
            await told(clients.runs.CancelRun(request), "orchestrator")
    except PlatformError as error:
        # it has ended meanwhile, or will find no thread to write to
        if error.reason not in (Reason.NOT_CANCELLABLE, Reason.RUN_NOT_FOUND):
            log.warning("thread.run_not_cancelled", run_id=run_id, reason=error.reason.name)
