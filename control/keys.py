"""API keys: made, told once, stored as SHA-256, pushed to whoever authenticates, revoked for good."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from control import fields, grants
from control.access import Access, is_platform
from control.changes import Change, Changes
from control.store import ApiKeyEntry, Unit
from control.store import keys as rows
from control.tenants import require_tenant, require_workspace
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.db import utc_now
from kit.errors import PlatformError, Reason
from kit.ids import new_id
from kit.principal import PLATFORM, current
from kit.settings import validate_layer

PREFIX: Final = "fc-"
_ALPHABET: Final = string.digits + string.ascii_letters
_RANDOM_BYTES: Final = 32
_BASE62_DIGITS: Final = 43  # of 256 bits
_SHOWN: Final = 7
_RESERVED_SUBJECT: Final = "service:"
_HASH = re.compile(r"[0-9a-f]{64}")


def new_key() -> str:
    """A new key: "fc-" and 256 random bits in base62 (43 digits)."""
    number = int.from_bytes(secrets.token_bytes(_RANDOM_BYTES), "big")
    digits = []
    for _ in range(_BASE62_DIGITS):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return PREFIX + "".join(digits)


def hash_key(key: str) -> str:
    """SHA-256, lower-case hex: all that is stored. No salt is needed: keys are random, not chosen."""
    return hashlib.sha256(key.encode()).hexdigest()


def shown_prefix(key: str) -> str:
    """What a key is recognised by; of a short one (chosen by an operator) at most a quarter."""
    return key[: min(_SHOWN, len(key) // 4)]


def told(row: ApiKeyEntry) -> dict[str, Any]:
    """What services are told of a key; its hash is the resource's name."""
    return {
        "id": row.id,
        "subject": row.subject,
        "name": row.name,
        "roles": row.roles,
        "scopes": row.scopes,
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "settings": row.settings,
        "act_for": bool(row.settings.get("security", {}).get("act_for", False)),
    }


async def tell(change: Change, row: ApiKeyEntry) -> None:
    """Push the key, or withdraw a revoked one."""
    body = None if row.revoked_at else told(row)
    kind = ResourceKind.RESOURCE_KIND_API_KEY
    row.revision = await change.tell(kind, row.tenant_id, row.key_hash, body, workspace_id=row.workspace_id)


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a new key shall be."""

    tenant_id: str
    workspace_id: str = ""
    subject: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """What to change; None leaves it. `grants` are new roles and scopes."""

    name: str | None = None
    grants: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    expires_at: datetime | None = None
    settings: Mapping[str, Any] | None = None


class ApiKeys:
    """Operations on keys. Every write answers with the row and the revision of the change."""

    def __init__(self, changes: Changes, access: Access) -> None:
        self._changes = changes
        self._access = access

    async def create(self, wanted: NewKey) -> tuple[ApiKeyEntry, str, int]:
        """Make a key; returns its row, the key itself, and the revision."""
        workspace_id = wanted.workspace_id or _reach(current())
        principal = await self._access.write("api_key", wanted.tenant_id, workspace_id=workspace_id)
        row, key = _row(wanted, workspace_id)
        grants.require_may_grant(principal, row.roles, row.scopes)
        async with self._changes.open(row.tenant_id) as change:
            await require_tenant(change.unit, row.tenant_id)
            if workspace_id:
                await require_workspace(change.unit, row.tenant_id, workspace_id)
            await tell(change, row)
            await change.unit.add(row)
            details = {"subject": row.subject, "roles": row.roles, "scopes": row.scopes, "workspace": workspace_id}
            await change.audit("api_key.create", "api_key", row.id, row.tenant_id, details)
        return row, key, change.revision

    async def get(self, tenant_id: str, key_id: str) -> ApiKeyEntry:
        """Read a key's record."""
        principal = await self._access.read("api_key", tenant_id, key_id)
        async with self._changes.read(tenant_id) as unit:
            return await _require_key(unit, tenant_id, key_id, _reach(principal))

    async def list(
        self, tenant_id: str, workspace_id: str, after: tuple[datetime, str] | None, limit: int, include_revoked: bool
    ) -> list[ApiKeyEntry]:
        """A tenant's keys, newest first, after a page key; "" does not narrow to a workspace."""
        principal = await self._access.read("api_key", tenant_id)
        reach = _reach(principal)
        if reach and workspace_id not in ("", reach):
            raise PlatformError.not_found("workspace", workspace_id)
        async with self._changes.read(tenant_id) as unit:
            await require_tenant(unit, tenant_id)
            workspace_id = workspace_id or reach
            if workspace_id:
                await require_workspace(unit, tenant_id, workspace_id)
            return await rows.page(unit, tenant_id, workspace_id, after, limit, include_revoked=include_revoked)

    async def update(self, tenant_id: str, key_id: str, wanted: KeyUpdate, etag: str) -> tuple[ApiKeyEntry, int]:
        """Change name, grants, expiry or settings. CONFLICT for a revoked key."""
        principal = await self._writer(tenant_id, key_id)
        async with self._changes.open(tenant_id) as change:
            row = await _require_key(change.unit, tenant_id, key_id, _reach(principal))
            fields.etag(row.revision, etag, "api_key")
            _require_may_touch(principal, row)
            if row.revoked_at is not None:
                raise PlatformError(Reason.CONFLICT, "The key is revoked.", resource="api_key", id=key_id)
            _apply(row, wanted, principal)
            await tell(change, row)
            await change.audit(
                "api_key.update", "api_key", row.id, tenant_id, {"roles": row.roles, "scopes": row.scopes}
            )
        return row, change.revision

    async def revoke(self, tenant_id: str, key_id: str) -> tuple[ApiKeyEntry, int]:
        """End a key for good. Safe to repeat."""
        principal = await self._writer(tenant_id, key_id)
        async with self._changes.open(tenant_id) as change:
            row = await _require_key(change.unit, tenant_id, key_id, _reach(principal))
            _require_may_touch(principal, row)
            if row.revoked_at is None:
                row.revoked_at = utc_now()
                await tell(change, row)
                await change.audit("api_key.revoke", "api_key", row.id, tenant_id)
        return row, change.revision or row.revision

    async def look_up(self, key_hash: str) -> ApiKeyEntry:
        """Find a key by hash, for services; revoked and expired ones too."""
        self._access.service()
        if not _HASH.fullmatch(key_hash):
            raise PlatformError.invalid("key_hash", "Must be a SHA-256 in lower-case hex.")
        async with self._changes.read("") as unit:
            row = await unit.find(ApiKeyEntry, key_hash=key_hash)
        if row is None:
            raise PlatformError.not_found("api_key", key_hash[:8])
        return row

    async def _writer(self, tenant_id: str, key_id: str) -> Principal:
        # A caller bound to a workspace may write keys of that one: _require_key hides the others.
        return await self._access.write("api_key", tenant_id, key_id, workspace_id=current().workspace_id)


def _reach(principal: Principal) -> str:
    """Workspace that the caller is held to; "": the whole tenant."""
    return "" if is_platform(principal) else principal.workspace_id


async def _require_key(unit: Unit, tenant_id: str, key_id: str, workspace_id: str) -> ApiKeyEntry:
    row = await unit.find(ApiKeyEntry, tenant_id=tenant_id, id=key_id)
    if row is None or (workspace_id and row.workspace_id != workspace_id):
        raise PlatformError.not_found("api_key", key_id)
    return row


def _require_may_touch(principal: Principal, row: ApiKeyEntry) -> None:
    """A key of the platform is the platform's to change, though it belongs to a tenant."""
    if PLATFORM in row.scopes and not is_platform(principal):
        raise PlatformError(Reason.MISSING_SCOPE, 'Changing this key needs the scope "platform".', scope=PLATFORM)


def _row(wanted: NewKey, workspace_id: str) -> tuple[ApiKeyEntry, str]:
    roles, scopes = grants.resolve(wanted.roles, wanted.scopes)
    if wanted.expires_at is not None and wanted.expires_at <= utc_now():
        raise PlatformError.invalid("expires_at", "Must be in the future.")
    key, key_id = new_key(), new_id("key")
    row = ApiKeyEntry(
        id=key_id,
        tenant_id=wanted.tenant_id,
        workspace_id=workspace_id,
        subject=_subject(wanted.subject) or f"key:{key_id}",
        name=fields.text("name", wanted.name, fields.MAXIMUM_NAME),
        prefix=shown_prefix(key),
        key_hash=hash_key(key),
        roles=roles,
        scopes=scopes,
        settings=settings_of(wanted.settings or {}),
        bootstrap=False,
        created_at=utc_now(),
        expires_at=wanted.expires_at,
    )
    return row, key


def _subject(value: str) -> str:
    value = fields.text("subject", value, fields.MAXIMUM_SUBJECT)
    if value.startswith(_RESERVED_SUBJECT):
        raise PlatformError.invalid(
            "subject", f'Subjects that begin with "{_RESERVED_SUBJECT}" are the platform\'s own.'
        )
    return value


def settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """A key's own settings layer, checked. Issuers of tokens are not a key's to tell."""
    try:
        layer = validate_layer(document)
    except PlatformError as error:
        raise PlatformError.invalid(f"settings.{error.metadata.get('field', '')}", error.message) from error
    if "jwt" in layer.get("security", {}):
        raise PlatformError.invalid("settings.security.jwt", "Belongs to a tenant or workspace, not to a key.")
    return layer


def _apply(row: ApiKeyEntry, wanted: KeyUpdate, principal: Principal) -> None:
    if wanted.name is not None:
        row.name = fields.text("name", wanted.name, fields.MAXIMUM_NAME)
    if wanted.grants is not None:
        row.roles, row.scopes = grants.resolve(*wanted.grants)
        grants.require_may_grant(principal, row.roles, row.scopes)
    if wanted.expires_at is not None:
        row.expires_at = wanted.expires_at
    if wanted.settings is not None:
        row.settings = settings_of(wanted.settings)
