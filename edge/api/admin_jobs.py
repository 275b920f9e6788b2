"""/v1/admin/jobs: jobs that never succeeded (dead letters), to look at, run again, or forget.

A platform caller sees all of them, anybody else those of their tenant. What a job carries is not told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from edge.api.admin_http import Caller, Deleted, Listing, Page, TenantId, listing, owner_of
from edge.auth.identity import Authenticated
from edge.deps import EdgeDeps
from kit.errors import PlatformError, Reason
from kit.jobs import DeadLetter, DeadLetters

T = TypeVar("T")


class DeadJob(BaseModel):
    """A job that was given up. `error` is the reason of its last failure."""

    id: str
    object: Literal["job"] = "job"
    status: Literal["dead", "queued"]
    queue: str
    kind: str
    key: str
    tenant_id: str
    deliveries: int
    error: str
    failed_at: datetime


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/jobs", tags=["admin: jobs"])

    def letters() -> DeadLetters:
        if deps.mesh.bus is None:
            raise PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "there is no job queue here", dependency="bus")
        return DeadLetters(deps.mesh.bus)

    async def written(who: Authenticated, action: str, job_id: str, write: Callable[..., Awaitable[T]]) -> T:
        """Do it if policy lets the caller, and leave an audit event either way."""
        decision = deps.policy.decide(who.principal, "admin.job.write", "Job", job_id)
        outcome = "ok"
        try:
            if not decision.allow:
                deps.policy.require(who.principal, "admin.job.write", "Job", job_id)
            return await write(job_id, tenant_id=owner_of(who, None) or None)
        except PlatformError as error:
            outcome = error.reason.name
            raise
        finally:
            await deps.audit.record(
                action=action, resource_type="job", resource_id=job_id, decision=decision, outcome=outcome
            )

    @routes.get("", response_model=Listing[DeadJob], summary="List jobs that were given up, oldest first")
    async def index(
        page: Page,
        request: Request,
        response: Response,
        who: Caller,
        queue: Annotated[str, Query(max_length=100, description="Only of this queue.")] = "",
        tenant_id: TenantId = "",
    ) -> object:
        owner = owner_of(who, tenant_id) or None
        deps.policy.require(who.principal, "admin.job.read", "Job", "")
        found = await letters().list(queue or None, owner, page_size=page.limit, page_token=page.after)
        shown = [_shown(letter, "dead") for letter in found.letters]
        return listing(request, response, shown, found.next_page_token)

    @routes.post("/{job_id}/redrive", response_model=DeadJob, summary="Put a job back into its queue")
    async def redrive(job_id: str, who: Caller) -> object:
        return _shown(await written(who, "job.redrive", job_id, letters().redrive), "queued")

    @routes.delete("/{job_id}", response_model=Deleted, summary="Forget a job for good")
    async def remove(job_id: str, who: Caller) -> object:
        await written(who, "job.delete", job_id, letters().delete)
        return Deleted(id=job_id, object="job.deleted")

    return routes


def _shown(letter: DeadLetter, status: Literal["dead", "queued"]) -> DeadJob:
    return DeadJob(
        id=letter.id,
        status=status,
        queue=letter.queue,
        kind=letter.kind,
        key=letter.key,
        tenant_id=letter.tenant_id,
        deliveries=letter.deliveries,
        error=letter.reason,
        failed_at=letter.failed_at,
    )
