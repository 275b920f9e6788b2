"""The first start: tenant, workspace, and a key that may do everything.

The key is what FASTCHAT_BOOTSTRAP_KEY says, and follows it: a new value becomes valid and the former is revoked.
Without it a key is generated once and kept in `<home>/bootstrap.key`, readable to the owner alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from control import keys, tenants
from control.changes import Change, Changes
from control.store import ApiKeyEntry, TenantEntry
from kit.config import ConfigError
from kit.crypto import write_new_secret
from kit.db import utc_now
from kit.ids import new_id
from kit.principal import ADMIN, CHAT, PLATFORM, acting_as, service_principal
from kit.telemetry import get_logger

VARIABLE: Final = "FASTCHAT_BOOTSTRAP_KEY"
FILE: Final = "bootstrap.key"

_log = get_logger(__name__)
_WEAK: Final = 20
_MAXIMUM: Final = 512


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What the start did. `key` is to be shown to the operator this once, and never logged."""

    first_start: bool
    """Whether the key was made now."""
    key: str | None = field(default=None, repr=False)
    """The key, where it was generated now; None where the operator told it, or has it already."""
    key_file: Path | None = None
    """Where the generated key is kept."""


def key_file(home: Path) -> Path:
    """Where a generated key is kept."""
    return home / FILE


async def bootstrap(changes: Changes, home: Path, env: Mapping[str, str]) -> Bootstrapped:
    """Make what is missing. Safe to repeat, and to run in several replicas at once. ConfigError for an unusable key."""
    told = _told(env)
    with acting_as(service_principal("control", tenants.DEFAULT)):
        async with changes.open("") as change:
            if await change.unit.find(TenantEntry, tenant_id=tenants.DEFAULT) is None:
                await tenants.add_tenant(change, tenants.DEFAULT, "Default")
                await change.audit("tenant.create", "tenant", tenants.DEFAULT, tenants.DEFAULT)
            row = await change.unit.find(ApiKeyEntry, bootstrap=True)
            if told:
                return Bootstrapped(await _follow(change, row, told))
            if row is not None:
                path = key_file(home)
                return Bootstrapped(False, key_file=path if path.exists() else None)
            key, path, made = _generated(home)
            await _add(change, key)
    return Bootstrapped(True, key=key if made else None, key_file=path)


async def _follow(change: Change, row: ApiKeyEntry | None, key: str) -> bool:
    """Make the told key the valid one; returns whether it was not before. A revoked one stays so."""
    key_hash = keys.hash_key(key)
    if row is not None and row.key_hash == key_hash:
        if row.revoked_at is not None:
            _log.warning("the bootstrap key was revoked and stays so; tell another one", variable=VARIABLE)
        return False
    if row is not None:
        row.bootstrap = False
        if row.revoked_at is None:
            row.revoked_at = utc_now()
            await keys.tell(change, row)
            await change.audit("api_key.revoke", "api_key", row.id, row.tenant_id, {"why": "replaced"})
    former = await change.unit.find(ApiKeyEntry, key_hash=key_hash)
    if former is None:
        await _add(change, key)
        return True
    former.bootstrap, former.revoked_at = True, None
    former.roles, former.scopes = ["admin"], [CHAT, ADMIN, PLATFORM]
    await keys.tell(change, former)
    await change.audit("api_key.restore", "api_key", former.id, former.tenant_id)
    return True


async def _add(change: Change, key: str) -> None:
    key_id = new_id("key")
    row = ApiKeyEntry(
        id=key_id,
        tenant_id=tenants.DEFAULT,
        workspace_id="",
        subject=f"key:{key_id}",
        name="Bootstrap",
        prefix=keys.shown_prefix(key),
        key_hash=keys.hash_key(key),
        roles=["admin"],
        scopes=[CHAT, ADMIN, PLATFORM],
        settings={},
        bootstrap=True,
        created_at=utc_now(),
    )
    await keys.tell(change, row)
    await change.unit.add(row)
    await change.audit("api_key.create", "api_key", key_id, tenants.DEFAULT, {"subject": row.subject})


def _told(env: Mapping[str, str]) -> str:
    """The operator's key; "" for none. ConfigError for one that cannot be sent in a header."""
    key = env.get(VARIABLE, "").strip()
    if not all("!" <= character <= "~" for character in key) or len(key) > _MAXIMUM:
        raise ConfigError(f"env:{VARIABLE}: must be at most {_MAXIMUM} printable ASCII characters without spaces")
    if 0 < len(key) < _WEAK:
        _log.warning("the bootstrap key is short and could be guessed", variable=VARIABLE, characters=len(key))
    return key


def _generated(home: Path) -> tuple[str, Path, bool]:
    """The key of the file, written first: a crash right after leaves a key that the next start finds.

    Returns (key, file, whether it was made now).
    """
    path = key_file(home)
    key = keys.new_key()
    if write_new_secret(path, f"{key}\n".encode()):
        return key, path, True
    found = path.read_text(encoding="ascii").strip()
    if not found:
        raise ConfigError(f"{path}: holds no key; remove the file to have one generated")
    return found, path, False
