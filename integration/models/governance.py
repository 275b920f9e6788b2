"""What a tenant may ask of models, and the record of what it asked (PR-004, PR-029)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.usage_pb2 import Usage
from fastchat.integration.v1.model_service_pb2 import ModelCall
from kit import principal as principals
from kit.audit import Audit
from kit.errors import PlatformError, Reason
from kit.policy import BY_DEFAULT, Decision, PolicyEngine
from kit.settings import SettingsCache, TenantSettings, model_allowed

_ACTION = "model.call"
_RESOURCE = "Model"


@dataclass(frozen=True, slots=True)
class Permit:
    """What was decided about a call."""

    principal: Principal
    settings: TenantSettings
    decision: Decision


class Governance:
    """Decides about model calls by the tenant's limits and policies, and records each."""

    def __init__(self, cache: SettingsCache, policy: PolicyEngine, audit: Audit) -> None:
        self._cache = cache
        self._policy = policy
        self._audit = audit

    def settings(self, tenant_id: str) -> TenantSettings:
        """Effective settings of the caller in a tenant. SETTINGS_STALE when they are too old to act upon."""
        self._cache.require_fresh(tenant_id)
        return self._cache.effective(tenant_id, self._workspace(tenant_id))

    async def permit(self, tenant_id: str, alias: str, *, tools: bool = False) -> Permit:
        """Let a call through, or raise MODEL_POLICY_DENIED; a refusal is recorded."""
        principal = principals.current()
        settings = self.settings(tenant_id)
        rule = _limit_broken(settings, alias, tools=tools)
        decision = Decision(False, (rule,)) if rule else self._policy.decide(principal, _ACTION, _RESOURCE, alias)
        if not decision.allow:
            await self._audit.record(
                action=_ACTION,
                resource_type="model",
                resource_id=alias,
                decision=decision,
                outcome=Reason.MODEL_POLICY_DENIED.name,
            )
            raise _denied(alias, decision.rule_ids[0] if decision.rule_ids else BY_DEFAULT)
        return Permit(principal, settings, decision)

    def allows(self, tenant_id: str, alias: str) -> bool:
        """Whether a call of the alias would be let through; nothing is recorded."""
        settings = self._cache.effective(tenant_id, self._workspace(tenant_id))
        if not model_allowed(settings.limits.allowed_models, alias):
            return False
        return bool(self._policy.decide(principals.current(), _ACTION, _RESOURCE, alias).allow)

    async def record(
        self,
        permit: Permit,
        call: ModelCall,
        output: str,
        usage: Usage,
        *,
        outcome: str,
        latency_ms: int,
        models: Sequence[str],
    ) -> None:
        """Record a call that was made: hashes of what went in and out, cost, latency, rules."""
        await self._audit.record(
            action=_ACTION,
            resource_type="model",
            resource_id=call.model_alias,
            decision=permit.decision,
            outcome=outcome,
            input=call.SerializeToString(deterministic=True),
            output=output.encode(),
            cost_micros=usage.cost_micros,
            latency_ms=latency_ms,
            details={
                "models": list(models),
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            },
            principal=permit.principal,
        )

    @staticmethod
    def _workspace(tenant_id: str) -> str:
        principal = principals.current()
        return principal.workspace_id if principal.tenant_id == tenant_id else ""


def _limit_broken(settings: TenantSettings, alias: str, *, tools: bool) -> str:
    """Name of the limit that forbids the call; "" if none does."""
    if not model_allowed(settings.limits.allowed_models, alias):
        return "limits.allowed_models"
    return "limits.tool_calling" if tools and not settings.limits.tool_calling else ""


def _denied(alias: str, rule: str) -> PlatformError:
    what = "Tool calling" if rule == "limits.tool_calling" else f'The model "{alias}"'
    return PlatformError(Reason.MODEL_POLICY_DENIED, f"{what} is not allowed here.", rule=rule, model=alias)
