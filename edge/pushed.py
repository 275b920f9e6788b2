"""What control has pushed, as authentication needs it: keys by hash, tenants, workspaces, issuers, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from edge.auth.bearer import Issuer
from edge.auth.identity import Authenticated, KeyHash, KeyRecord
from edge.limits import Rule, Rules
from fastchat.control.v1.api_key_service_pb2 import ApiKey
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind
from kit.settings import SettingsCache
from kit.settings.schema import JwtIssuer, TenantSettings
from kit.telemetry import get_logger

_log = get_logger(__name__)

_KEY = ResourceKind.RESOURCE_KIND_API_KEY
_TENANT = ResourceKind.RESOURCE_KIND_TENANT
_WORKSPACE = ResourceKind.RESOURCE_KIND_WORKSPACE
_SETTINGS = ResourceKind.RESOURCE_KIND_SETTINGS

KINDS = (_KEY, _TENANT, _WORKSPACE, _SETTINGS, ResourceKind.RESOURCE_KIND_POLICY, ResourceKind.RESOURCE_KIND_MODEL)
"""Kinds of resources that the edge watches."""


class Pushed:
    """A view of the settings cache, indexed. Implements PushedKeys, Tenancy and RuleSource."""

    def __init__(self, cache: SettingsCache) -> None:
        self._cache = cache
        self._keys: dict[KeyHash, KeyRecord] = {}
        self._issuers: dict[str, dict[tuple[str, str], list[Issuer]]] = {}
        self._rules: dict[tuple[str, str, str], tuple[int, KeyRecord | None, Rules]] = {}
        self._on_withdrawn: list[Callable[[KeyHash], None]] = []
        self._stop = cache.on_change(self._changed)
        self._changed(list(cache.state().resources))

    def close(self) -> None:
        """Stop listening."""
        self._stop()

    # PushedKeys

    @property
    def complete(self) -> bool:
        """Whether a state of control is known, so that an unknown key means something."""
        return self._cache.revision > 0

    def find(self, key_hash: KeyHash) -> KeyRecord | None:
        """The key's record; None if it was never pushed or is gone."""
        return self._keys.get(key_hash)

    def on_withdrawn(self, callback: Callable[[KeyHash], None]) -> None:
        """Call back when control withdraws a key: it was revoked."""
        self._on_withdrawn.append(callback)

    # Tenancy

    def require_fresh(self, tenant_id: str) -> None:
        """SETTINGS_STALE if control has been away for longer than the tenant's profile allows."""
        self._cache.require_fresh(tenant_id)

    def exists(self, tenant_id: str, workspace_id: str) -> bool:
        """Whether the workspace exists and may be used; with an empty workspace, the tenant."""
        status = self._status(tenant_id, workspace_id)
        return status is not None and status != "suspended"

    def suspended(self, tenant_id: str, workspace_id: str) -> bool:
        """Whether the tenant or the workspace is suspended."""
        return self._status(tenant_id, "") == "suspended" or (
            bool(workspace_id) and self._status(tenant_id, workspace_id) == "suspended"
        )

    def may_act_for(self, record: KeyRecord) -> bool:
        """Whether the key may act for end users, and its tenant lets keys do so."""
        return record.act_for and self._effective(record.tenant_id, record.workspace_id, record).security.act_for

    def issuers(self, issuer: str) -> Sequence[Issuer]:
        """Configurations that trust this `iss`, those that check the audience first."""
        found = [entry for owned in self._issuers.get(issuer, {}).values() for entry in owned]
        return sorted(found, key=lambda entry: not entry.audience)

    def trusts(self, tenant_id: str, config: JwtIssuer) -> bool:
        """Whether the tenant's settings (which may replace the operator's list) hold that issuer."""
        return config in self._cache.effective(tenant_id).security.jwt

    # RuleSource

    def rules_of(self, who: Authenticated) -> Rules:
        """Limits of the caller, kept until the settings change."""
        principal = who.principal
        holder = principal.api_key_id or principal.subject
        memo = (principal.tenant_id, principal.workspace_id, holder)
        known = self._rules.get(memo)
        if known is not None and known[0] == self._cache.revision and known[1] is who.key:
            return known[2]
        rules = self._make_rules(who, f"{principal.tenant_id}/{holder}")
        if len(self._rules) > 20_000:
            self._rules.clear()
        self._rules[memo] = (self._cache.revision, who.key, rules)
        return rules

    def max_body_bytes(self, who: Authenticated) -> int | None:
        """The caller's limit of a body; None: no limit from settings."""
        principal = who.principal
        return self._effective(principal.tenant_id, principal.workspace_id, who.key).limits.max_body_bytes

    def _make_rules(self, who: Authenticated, holder: str) -> Rules:
        tenant_id, workspace_id = who.principal.tenant_id, who.principal.workspace_id
        own = self._effective(tenant_id, workspace_id, who.key).limits
        tenant = self._effective(tenant_id, "", None).limits
        streams = [("tenant", tenant_id, tenant.concurrent_streams)]
        if workspace_id:
            shared = self._effective(tenant_id, workspace_id, None).limits
            streams.append(("workspace", f"{tenant_id}/{workspace_id}", shared.concurrent_streams))
        if who.key_settings:
            streams.append(("key", holder, own.concurrent_streams))
        return Rules(_rules([("key", holder, own.requests_per_minute)]), _rules(streams))

    def _effective(self, tenant_id: str, workspace_id: str, key: KeyRecord | None) -> TenantSettings:
        return self._cache.effective(tenant_id, workspace_id, key.settings if key and key.settings else None)

    def _status(self, tenant_id: str, workspace_id: str) -> str | None:
        if workspace_id:
            found = self._cache.get(_WORKSPACE, tenant_id, workspace_id) or self._cache.get(
                _WORKSPACE, tenant_id, workspace_id, workspace_id
            )
        else:
            found = self._cache.get(_TENANT, tenant_id, tenant_id) or self._cache.get(_TENANT, "", tenant_id)
        return None if found is None else str(orjson.loads(found.body_json).get("status", "active"))

    def _changed(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            if resource.kind == _KEY:
                self._key_changed(resource)
            elif resource.kind == _SETTINGS:
                self._layer_changed(resource)

    def _key_changed(self, resource: Resource) -> None:
        key_hash = KeyHash(resource.name)
        if resource.deleted:
            self._keys.pop(key_hash, None)
            for withdrawn in self._on_withdrawn:
                withdrawn(key_hash)
        else:
            self._keys[key_hash] = _record(resource)

    def _layer_changed(self, resource: Resource) -> None:
        owner = (resource.tenant_id, f"{resource.workspace_id}/{resource.name}")
        for owned in self._issuers.values():
            owned.pop(owner, None)
        if resource.deleted:
            return
        document = orjson.loads(resource.body_json or b"{}")
        for entry in (document.get("security") or {}).get("jwt") or []:
            try:
                config = JwtIssuer.model_validate(entry)
            except ValidationError:
                _log.warning("issuer ignored: not valid", tenant=resource.tenant_id, layer=resource.name)
                continue
            issuer = Issuer(config, resource.tenant_id, resource.workspace_id)
            self._issuers.setdefault(config.issuer, {}).setdefault(owner, []).append(issuer)


def record_of(key: ApiKey) -> KeyRecord:
    """A key's record from control's answer."""
    settings: dict[str, Any] = orjson.loads(key.settings_json) if key.settings_json else {}
    return KeyRecord(
        id=key.id,
        tenant_id=key.tenant_id,
        workspace_id=key.workspace_id,
        subject=key.subject,
        roles=tuple(key.roles),
        scopes=tuple(key.scopes),
        expires_at=key.expire_time.ToNanoseconds() / 1e9 if key.HasField("expire_time") else 0.0,
        revoked_at=key.revoke_time.ToNanoseconds() / 1e9 if key.HasField("revoke_time") else 0.0,
        settings=settings,
        act_for=(settings.get("security") or {}).get("act_for") is True,
    )


def _record(resource: Resource) -> KeyRecord:
    body: Mapping[str, Any] = orjson.loads(resource.body_json)
    return KeyRecord(
        id=body["id"],
        tenant_id=resource.tenant_id,
        workspace_id=resource.workspace_id,
        subject=body.get("subject", ""),
        roles=tuple(body.get("roles", ())),
        scopes=tuple(body.get("scopes", ())),
        expires_at=_seconds(body.get("expires_at")),
        revoked_at=_seconds(body.get("revoked_at")),
        settings=body.get("settings") or {},
        act_for=bool(body.get("act_for", False)),
    )


def _seconds(value: str | float | None) -> float:
    """Unix seconds of an RFC 3339 text or a number; 0.0 for none."""
    if not value:
        return 0.0
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)


def _rules(limits: Iterable[tuple[str, str, int | None]]) -> list[Rule]:
    return [Rule(scope, holder, maximum) for scope, holder, maximum in limits if maximum is not None]
