"""Roles and scopes: what there is, what a role brings, and who may give what to whom.

Scopes say which surface a key opens: `chat` (chat, embeddings, models, threads, runs), `admin` (administration of the
own tenant), `platform` (every tenant; implies the others). Roles say, through the Cedar bundles, what it may do there:

| role | scopes by default | may, by the built-in bundle |
|---|---|---|
| admin | chat, admin | everything inside the tenant |
| operator | chat, admin | what a member may; read all administration; redrive jobs; change nothing else |
| member | chat | chat, embeddings, models; read and write threads; read and cancel runs |
| viewer | chat | list models; read threads and runs |
| service | chat | what a member may; for machines |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from control import fields
from control.access import is_platform
from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason
from kit.principal import ADMIN, CHAT, PLATFORM, has_scope

ROLES: Final = ("admin", "operator", "member", "viewer", "service")
SCOPES: Final = (CHAT, ADMIN, PLATFORM)

_SCOPES_OF_ROLE: Final[Mapping[str, tuple[str, ...]]] = {"admin": (CHAT, ADMIN), "operator": (CHAT, ADMIN)}


def resolve(roles: Sequence[str], scopes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Roles and scopes as stored: no roles means member, no scopes those of the roles. INVALID_ARGUMENT if unknown."""
    wanted = fields.chosen("roles", roles, ROLES) or ["member"]
    told = fields.chosen("scopes", scopes, SCOPES)
    return wanted, told or scopes_of(wanted)


def scopes_of(roles: Sequence[str]) -> list[str]:
    """Scopes that the roles bring by default."""
    return list(dict.fromkeys(scope for role in roles for scope in _SCOPES_OF_ROLE.get(role, (CHAT,))))


def require_may_grant(principal: Principal, roles: Sequence[str], scopes: Sequence[str]) -> None:
    """MISSING_SCOPE or POLICY_DENIED where a caller would give what it does not have. An admin has every role."""
    for scope in scopes:
        if not has_scope(principal, scope):
            raise PlatformError(Reason.MISSING_SCOPE, f'Only who has the scope "{scope}" can grant it.', scope=scope)
    if is_platform(principal) or "admin" in principal.roles:
        return
    for role in roles:
        if role not in principal.roles:
            message = f'Only who has the role "{role}" can grant it.'
            raise PlatformError(Reason.POLICY_DENIED, message, rule="grant-own-roles", action="admin.api_key.write")
