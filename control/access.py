"""Who may do what here: scope, tenant, workspace, then policy.

What is another tenant's is answered exactly as what does not exist, before policy is asked.
"""

from __future__ import annotations

from typing import Protocol

from control.changes import audit_entry
from control.store import Store
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.audit_service_pb2 import AuditDecision
from kit.errors import PlatformError, Reason
from kit.principal import ADMIN, PLATFORM, has_scope, require_scope

_SERVICE_PREFIX = "service:"


class Decided(Protocol):
    """What policy decided."""

    @property
    def allow(self) -> bool:
        """Whether it may."""

    @property
    def rule_ids(self) -> tuple[str, ...]:
        """Rules that decided."""


class Policy(Protocol):
    """Decides on actions; kit.policy.PolicyEngine does."""

    def decide(self, principal: Principal, action: str, resource_type: str, resource_id: str) -> Decided:
        """Whether the principal may."""


class Access:
    """Asked by every operation before it touches a row."""

    def __init__(self, policy: Policy, store: Store) -> None:
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
            raise PlatformError(Reason.POLICY_DENIED, message, rule="workspace-bound", action=f"admin.{resource}.write")
        await self._decide(principal, f"admin.{_action(resource)}.write", resource, id, owner)
        return principal

    async def platform(self, resource: str, id: str = "") -> Principal:
        """The caller, if it may act on every tenant."""
        require_scope(ADMIN)
        principal = require_scope(PLATFORM)
        await self._decide(principal, f"admin.{_action(resource)}.write", resource, id, "")
        return principal

    def service(self) -> Principal:
        """The caller, if it is a service of the mesh."""
        principal = require_scope(PLATFORM)
        if not principal.subject.startswith(_SERVICE_PREFIX):
            message = "Only services of the platform may call this."
            raise PlatformError(Reason.POLICY_DENIED, message, rule="services-only", action="control.internal")
        return principal

    async def _decide(self, principal: Principal, action: str, resource: str, id: str, owner: str) -> None:
        decision = self._policy.decide(principal, action, resource, id)
        if decision.allow:
            return
        rules = tuple(decision.rule_ids)
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
        message = f"A policy denies {action}."
        raise PlatformError(Reason.POLICY_DENIED, message, rule=",".join(rules) or "no-permit", action=action)


def is_platform(principal: Principal) -> bool:
    """Whether the caller may touch every tenant."""
    return has_scope(principal, PLATFORM)


def _require_tenant(principal: Principal, resource: str, owner: str, id: str) -> None:
    if owner == principal.tenant_id or has_scope(principal, PLATFORM):
        return
    raise PlatformError.not_found(resource, id) if id else PlatformError.not_found("tenant", owner)


def _action(resource: str) -> str:
    """Noun of the action: model entries are administered as "model"."""
    return "model" if resource == "model_entry" else resource
