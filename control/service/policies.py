"""PolicyService."""

from __future__ import annotations

from typing import Any

from control.policy import BUILT_IN, Policies
from control.service.convert import Page, required, stamp
from control.store import PolicyRow
from fastchat.control.v1 import policy_service_pb2 as pb
from fastchat.control.v1 import policy_service_pb2_grpc as rpc


class PolicyServicer(rpc.PolicyServiceServicer):
    """Policy bundles in Cedar."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def CreatePolicy(self, request: pb.CreatePolicyRequest, context: Any) -> pb.CreatePolicyResponse:
        """CreatePolicy adds a bundle; its Cedar text must parse and validate."""
        row, revision = await self._policies.create(_row(request.policy))
        return pb.CreatePolicyResponse(policy=_policy(row), revision=revision)

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Any) -> pb.GetPolicyResponse:
        """GetPolicy reads a bundle."""
        row = await self._policies.get(request.tenant_id, required("name", request.name))
        return pb.GetPolicyResponse(policy=_policy(row))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Any) -> pb.ListPoliciesResponse:
        """ListPolicies lists bundles in order of name, the built-in one first."""
        page = Page(request, 2)
        after = (str(page.after[0]), str(page.after[1])) if page.after else None
        rows = await self._policies.list(request.tenant_id, after, page.limit)
        found, token = page.cut(rows, lambda row: (row.name, row.tenant_id))
        return pb.ListPoliciesResponse(policies=[_policy(row) for row in found], next_page_token=token)

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, context: Any) -> pb.UpdatePolicyResponse:
        """UpdatePolicy replaces a bundle."""
        required("name", request.policy.name)
        row, revision = await self._policies.update(_row(request.policy), request.policy.etag)
        return pb.UpdatePolicyResponse(policy=_policy(row), revision=revision)

    async def DeletePolicy(self, request: pb.DeletePolicyRequest, context: Any) -> pb.DeletePolicyResponse:
        """DeletePolicy removes a bundle."""
        name = required("name", request.name)
        return pb.DeletePolicyResponse(revision=await self._policies.delete(request.tenant_id, name, request.etag))


def _row(policy: pb.Policy) -> PolicyRow:
    return PolicyRow(
        tenant_id=policy.tenant_id,
        name=policy.name,
        cedar=policy.cedar,
        enabled=policy.enabled,
        description=policy.description,
    )


def _policy(row: PolicyRow) -> pb.Policy:
    return pb.Policy(
        name=row.name,
        tenant_id=row.tenant_id,
        cedar=row.cedar,
        enabled=row.enabled,
        description=row.description,
        etag=str(row.revision),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        built_in=row.name == BUILT_IN,
    )
