"""Who may do what here: scope, tenant, workspace, then policy.

What is another tenant's is answered exactly as what does not exist, before policy is asked.
"""

from __future__ import annotations

from typing import Final

from control.changes import audit_entry
from control.store import Store
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.audit_service_pb2 import AuditDecision
from kit.errors import PlatformError, Reason
from kit.policy import BY_DEFAULT, PolicyEngine
from kit.principal import ADMIN, PLATFORM, has_scope, require_scope

_SERVICE_PREFIX: Final = "service:"
# Cedar's types of what is administered, and the noun of its actions where that is another.
_TYPES: Final = {
    "tenant": "Tenant",
    "workspace": "Workspace",
    "api_key": "ApiKey",
    "model_entry": "Model",
    "policy": "Policy",
    "settings": "Settings",
    "audit": "Audit",
    "scope": "Scope",
}
_NOUNS: Final = {"model_entry": "model"}


class Access:
    """Asked by every operation before it touches a row."""

    def __init__(self, policy: PolicyEngine, store: Store) -> None:
        self._policy = policy
        self._store = store

    async def read(self, resource: str, owner: str, id: str = "") -> Principal:
        """The caller, if it may read `owner`'s resources of that kind; platform rows ("") may be read by all."""
        principal = require_scope(ADMIN)
        if owner:
            _require_tenant(principal, resource, owner, id)
        await self._decide(principal, f"admin.{_action(resource)}.read", resource, id, owner)
        return principal

    async def write(self, resource: str, owner: str, id: str = "", *, workspace_id: str = "") -> Principal:
        """The caller, if it may change them. A caller bound to a workspace changes only what is that workspace's."""
        principal = require_scope(ADMIN)
        if not owner:
            require_scope(PLATFORM)
        _require_tenant(principal, resource, owner, id)
        bound = principal.workspace_id
        if bound and bound != workspace_id and not has_scope(principal, PLATFORM):
            message = "These credentials are bound to a workspace and cannot change what is outside of it."
            raise PlatformError(
                Reason.POLICY_DENIED, message, rule="workspace-bound", action=f"admin.{_action(resource)}.write"
            )
        await self._decide(principal, f"admin.{_action(resource)}.write", resource, id, owner)
        return principal

    async def platform(self, resource: str, id: str = "") -> Principal:
        """The caller, if it may act on every tenant."""
        require_scope(ADMIN)
        principal = require_scope(PLATFORM)
        await self._decide(principal, f"admin.{_action(resource)}.write", resource, id, "")
        return principal

    async def scope(self, action: str, tenant_id: str) -> Principal:
        """The caller, if it may export or erase a tenant's rows."""
        principal = require_scope(ADMIN)
        _require_tenant(principal, "scope", tenant_id, "")
        await self._decide(principal, action, "scope", tenant_id, tenant_id)
        return principal

    def service(self) -> Principal:
        """The caller, if it is a service of the mesh."""
        principal = require_scope(PLATFORM)
        if not principal.subject.startswith(_SERVICE_PREFIX):
            message = "Only services of the platform may call this."
            raise PlatformError(Reason.POLICY_DENIED, message, rule="services-only", action="control.internal")
        return principal

    async def _decide(self, principal: Principal, action: str, resource: str, id: str, owner: str) -> None:
        if resource == "policy" and has_scope(principal, PLATFORM):
            return  # so that a bundle that forbids too much can be taken back
        decision = self._policy.decide(principal, action, _TYPES[resource], id, resource_tenant=owner)
        if decision.allow:
            return
        rules = decision.rule_ids
        entry = audit_entry(
            principal,
            action,
            resource,
            id,
            owner or principal.tenant_id,
            {},
            decision=AuditDecision.AUDIT_DECISION_DENY,
            rule_ids=rules,
            outcome=Reason.POLICY_DENIED.name,
        )
        async with self._store.write(entry.tenant_id) as unit:
            await unit.add(entry)
        message = f"Policy does not allow {action}."
        raise PlatformError(Reason.POLICY_DENIED, message, rule=rules[0] if rules else BY_DEFAULT, action=action)


def is_platform(principal: Principal) -> bool:
    """Whether the caller may touch every tenant."""
    return has_scope(principal, PLATFORM)


def _require_tenant(principal: Principal, resource: str, owner: str, id: str) -> None:
    if owner == principal.tenant_id or has_scope(principal, PLATFORM):
        return
    raise PlatformError.not_found(resource, id) if id else PlatformError.not_found("tenant", owner)


def _action(resource: str) -> str:
    return _NOUNS.get(resource, resource)
