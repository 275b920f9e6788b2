"""Policy decisions, made where the action happens, on the bundles that control pushed (Cedar).

Platform bundles decide what the roles may do; a tenant's bundles can forbid more, and what they permit counts for
nothing beyond that. No built-in bundle, an unreadable one, or a policy that fails to evaluate: denied.

Cost, CPU measured with the built-in bundle: 95 us a decision that was not made before, 2 us a repeated one;
bundles are parsed once per revision (about 1 ms).
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy
import structlog

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BUILT_IN = "builtin"
_KIND = ResourceKind.RESOURCE_KIND_POLICY
_MEMO_LIMIT = 50_000
_SETS_LIMIT = 1_000

NO_BUNDLE, BROKEN, BY_DEFAULT = "no-bundle", "broken-bundle", "default-deny"
"""Rule ids of denials that no rule of a bundle made."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says. `rule_ids` are the @id annotations that decided."""

    allow: bool
    rule_ids: tuple[str, ...]


class PolicyEngine:
    """Decides for one process. Follows the settings cache by itself."""

    def __init__(self, cache: SettingsCache) -> None:
        self._cache = cache
        self._sets: OrderedDict[str, cedarpy.PolicySet | None] = OrderedDict()
        self._memo: dict[tuple[Any, ...], Decision] = {}
        cache.on_change(self._changed)

    def decide(
        self,
        principal: Principal,
        action: str,
        resource_type: str,
        resource_id: str,
        context: Mapping[str, Any] | None = None,
        *,
        resource_tenant: str | None = None,
    ) -> Decision:
        """Whether the principal may.

        `action` is such as "model.call"; the resource is `<resource_type>::"<resource_id>"` with the attribute
        `tenant`: the principal's own, unless `resource_tenant` tells otherwise ("" is the platform's).
        """
        tenant = principal.tenant_id if resource_tenant is None else resource_tenant
        told = json.dumps(context, sort_keys=True) if context else ""
        memo_key = (_identity(principal), action, resource_type, resource_id, tenant, told)
        found = self._memo.get(memo_key)
        if found is None:
            found = self._evaluate(principal, action, (resource_type, resource_id, tenant), dict(context or {}))
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[memo_key] = found
        return found

    def require(
        self,
        principal: Principal,
        action: str,
        resource_type: str,
        resource_id: str,
        context: Mapping[str, Any] | None = None,
        *,
        resource_tenant: str | None = None,
    ) -> Decision:
        """The decision if it allows; else POLICY_DENIED, or MODEL_POLICY_DENIED for "model.call"."""
        decision = self.decide(principal, action, resource_type, resource_id, context, resource_tenant=resource_tenant)
        if decision.allow:
            return decision
        rule = decision.rule_ids[0] if decision.rule_ids else BY_DEFAULT
        if action == "model.call":
            message = f"Policy does not allow the model {resource_id}."
            raise PlatformError(Reason.MODEL_POLICY_DENIED, message, rule=rule, model=resource_id)
        raise PlatformError(Reason.POLICY_DENIED, f"Policy does not allow {action}.", rule=rule, action=action)

    def _evaluate(
        self, principal: Principal, action: str, resource: tuple[str, str, str], context: dict[str, Any]
    ) -> Decision:
        if self._cache.get(_KIND, "", BUILT_IN) is None:
            return Decision(False, (NO_BUNDLE,))
        policies = self._policies(principal.tenant_id)
        if policies is None:
            return Decision(False, (BROKEN,))
        resource_type, resource_id, tenant = resource
        request = {
            "principal": {"type": "User", "id": principal.subject},
            "action": {"type": "Action", "id": action},
            "resource": {"type": resource_type, "id": resource_id},
            "context": context,
        }
        try:
            answer = cedarpy.is_authorized(request, policies, [_user(principal), _entity(request["resource"], tenant)])
        except ValueError as error:
            log.error("policy.not_evaluated", action=action, why=str(error)[:200])
            return Decision(False, (BROKEN,))
        diagnostics = answer.diagnostics
        if diagnostics.errors:
            # Cedar skips a policy that fails; skipping a forbid would open a door.
            log.error("policy.failed", action=action, tenant_id=principal.tenant_id, why=diagnostics.errors[0][:200])
            return Decision(False, (BROKEN,))
        names = diagnostics.id_annotations_by_reason
        rule_ids = tuple(sorted(names.get(reason) or reason for reason in diagnostics.reasons))
        return Decision(bool(answer.allowed), rule_ids)

    def _policies(self, tenant_id: str) -> "cedarpy.PolicySet | None":
        """The platform's bundles and the tenant's forbids, parsed; None if one cannot be read."""
        if tenant_id in self._sets:
            self._sets.move_to_end(tenant_id)
            return self._sets[tenant_id]
        try:
            parsed = _parse(
                self._cache.resources(_KIND, ""), self._cache.resources(_KIND, tenant_id) if tenant_id else []
            )
        except ValueError as error:
            log.error("policy.unreadable", tenant_id=tenant_id, why=str(error)[:200])
            parsed = None
        self._sets[tenant_id] = parsed
        if len(self._sets) > _SETS_LIMIT:
            self._sets.popitem(last=False)
        return parsed

    def _changed(self, resources: list[Resource]) -> None:
        if any(resource.kind == _KIND for resource in resources):
            self._sets.clear()
            self._memo.clear()


def _parse(platform: list[Resource], tenant: list[Resource]) -> "cedarpy.PolicySet":
    """One policy set. ValueError when a bundle does not parse."""
    policies: dict[str, Any] = {}
    for owner, resources in (("platform", platform), ("tenant", tenant)):
        for resource in resources:
            bundle = json.loads(resource.body_json)
            if not bundle.get("enabled", True):
                continue
            told = json.loads(cedarpy.policies_to_json_str(bundle["cedar"]))["staticPolicies"]
            for name, policy in told.items():
                if owner == "platform" or policy["effect"] == "forbid":
                    policies[f"{owner}/{resource.workspace_id}/{resource.name}/{name}"] = policy
    return cedarpy.PolicySet.from_json_str(
        json.dumps({"staticPolicies": policies, "templates": {}, "templateLinks": []})
    )


def _identity(principal: Principal) -> tuple[Any, ...]:
    """What of a principal policies can see."""
    return (
        principal.subject,
        principal.tenant_id,
        principal.workspace_id,
        principal.act_for,
        tuple(principal.roles),
        tuple(principal.scopes),
    )


def _user(principal: Principal) -> dict[str, Any]:
    return {
        "uid": {"type": "User", "id": principal.subject},
        "attrs": {
            "tenant": principal.tenant_id,
            "workspace": principal.workspace_id,
            "act_for": principal.act_for,
            "scopes": list(principal.scopes),
        },
        "parents": [{"type": "Role", "id": role} for role in principal.roles],
    }


def _entity(uid: Any, tenant: str) -> dict[str, Any]:
    return {"uid": uid, "attrs": {"tenant": tenant}, "parents": []}
