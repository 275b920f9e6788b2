"""/v1/admin/policies: Cedar bundles. The built-in one comes first and is read-only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from edge.api.admin_http import (
    Body,
    Caller,
    Deleted,
    Id,
    Listing,
    Page,
    TenantId,
    Version,
    listing,
    moment,
    owner_of,
    told,
)
from edge.control_plane import ControlPlane
from edge.deps import EdgeDeps
from fastchat.control.v1 import policy_service_pb2 as pb
from kit.errors import PlatformError

Cedar = Annotated[str, Field(min_length=1, max_length=200_000, description='Cedar text; each policy has @id("...").')]
Description = Annotated[str, Field(max_length=2000)]


class Policy(BaseModel):
    """A bundle."""

    id: str
    object: Literal["policy"] = "policy"
    name: str
    tenant_id: str
    cedar: str
    enabled: bool
    description: str
    built_in: bool
    created_at: datetime | None
    updated_at: datetime | None
    etag: str


class NewPolicy(Body):
    """A bundle to make."""

    tenant_id: Id | None = None
    name: Id
    cedar: Cedar
    enabled: bool = True
    description: Description = ""


class PolicyChange(Body):
    """The whole new bundle."""

    cedar: Cedar
    enabled: bool = True
    description: Description = ""
    name: Annotated[str | None, Field(description="May be left out; else it must be that of the path.")] = None


def router(deps: EdgeDeps) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/admin/policies", tags=["admin: policies"])
    control = ControlPlane.of(deps)

    @routes.post("", status_code=201, response_model=Policy, summary="Add a bundle")
    async def create(body: NewPolicy, request: Request, response: Response, who: Caller) -> object:
        owner = owner_of(who, body.tenant_id)
        bundle = pb.Policy(
            name=body.name, tenant_id=owner, cedar=body.cedar, enabled=body.enabled, description=body.description
        )
        made = (await control.write(control.policies.CreatePolicy, pb.CreatePolicyRequest(policy=bundle))).policy
        response.headers["location"] = f"/v1/admin/policies/{made.name}" + (f"?tenant_id={owner}" if owner else "")
        return told(request, response, _shown(made), made.etag)

    @routes.get("", response_model=Listing[Policy], summary="List the tenant's bundles and the platform's")
    async def index(page: Page, request: Request, response: Response, who: Caller, tenant_id: TenantId = "") -> object:
        asked = pb.ListPoliciesRequest(tenant_id=owner_of(who, tenant_id), page_size=page.limit, page_token=page.after)
        found = await control.read(control.policies.ListPolicies, asked)
        return listing(request, response, [_shown(bundle) for bundle in found.policies], found.next_page_token)

    @routes.get("/{name}", response_model=Policy, summary="Read a bundle")
    async def read(name: str, request: Request, response: Response, who: Caller, tenant_id: TenantId = "") -> object:
        asked = pb.GetPolicyRequest(tenant_id=owner_of(who, tenant_id), name=name)
        found = (await control.read(control.policies.GetPolicy, asked)).policy
        return told(request, response, _shown(found), found.etag)

    @routes.put("/{name}", response_model=Policy, summary="Replace a bundle")
    async def change(
        name: str,
        body: PolicyChange,
        request: Request,
        response: Response,
        who: Caller,
        version: Version,
        tenant_id: TenantId = "",
    ) -> object:
        if body.name not in (None, name):
            raise PlatformError.invalid("name", "a bundle cannot be renamed; make another")
        bundle = pb.Policy(
            name=name,
            tenant_id=owner_of(who, tenant_id),
            cedar=body.cedar,
            enabled=body.enabled,
            description=body.description,
            etag=version,
        )
        changed = (await control.write(control.policies.UpdatePolicy, pb.UpdatePolicyRequest(policy=bundle))).policy
        return told(request, response, _shown(changed), changed.etag)

    @routes.delete("/{name}", response_model=Deleted, summary="Remove a bundle")
    async def remove(name: str, who: Caller, version: Version, tenant_id: TenantId = "") -> object:
        asked = pb.DeletePolicyRequest(tenant_id=owner_of(who, tenant_id), name=name, etag=version)
        await control.write(control.policies.DeletePolicy, asked)
        return Deleted(id=name, object="policy.deleted")

    return routes


def _shown(bundle: pb.Policy) -> Policy:
    return Policy(
        id=bundle.name,
        name=bundle.name,
        tenant_id=bundle.tenant_id,
        cedar=bundle.cedar,
        enabled=bundle.enabled,
        description=bundle.description,
        built_in=bundle.built_in,
        created_at=moment(bundle.create_time, bundle.HasField("create_time")),
        updated_at=moment(bundle.update_time, bundle.HasField("update_time")),
        etag=bundle.etag,
    )
