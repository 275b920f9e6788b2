"""Policy at the edge, with refusals on record.

What is allowed here leaves its audit event where it is done: a chat as the model call that integration makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError

if TYPE_CHECKING:
    from kit.audit import Audit
    from kit.policy import PolicyEngine


class Permission:
    """Asks the policy."""

    def __init__(self, policy: PolicyEngine, audit: Audit) -> None:
        self._policy = policy
        self._audit = audit

    async def require(self, principal: Principal, action: str, resource_type: str, resource_id: str) -> None:
        """POLICY_DENIED unless the principal may; a refusal is an audit event."""
        try:
            self._policy.require(principal, action, resource_type, resource_id)
        except PlatformError:
            await self._audit.record(
                action=action,
                resource_type=resource_type,
                resource_id=resource_id,
                decision=self._policy.decide(principal, action, resource_type, resource_id),
                outcome="refused",
                principal=principal,
            )
            raise
