"""Acting for an end user: `x-user-id`, `x-tenant-id`, `x-workspace` and `x-user-role`.

They are honoured only from a key whose policy lets it act for others, and never widen what it may do: another tenant
needs the platform scope, a workspace only where the key is bound to none, and a role only one that the key has.
From any other caller they are as if they had not been sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError

USER: Final = "x-user-id"
TENANT: Final = "x-tenant-id"
WORKSPACE: Final = "x-workspace"
ROLE: Final = "x-user-role"
HEADERS: Final = (USER, TENANT, WORKSPACE, ROLE)

MAXIMUM_CHARS: Final = 256

Exists = Callable[[str, str], bool]
"""Whether a workspace (or, with an empty second argument, a tenant) exists and is active."""


def asks(headers: Mapping[str, str]) -> bool:
    """Whether any of the headers is there."""
    return any(headers.get(name) for name in HEADERS)


def narrowed(principal: Principal, headers: Mapping[str, str], exists: Exists, *, platform: bool) -> Principal:
    """The principal that the headers ask for. NOT_FOUND for a tenant or workspace that is not there or not theirs."""
    result = Principal()
    result.CopyFrom(principal)
    tenant = _value(headers, TENANT)
    if tenant and tenant != principal.tenant_id:
        if not platform or not exists(tenant, ""):
            raise PlatformError.not_found("tenant", tenant)
        result.tenant_id = tenant
        result.workspace_id = ""
        # Inside another tenant it is that tenant's user, not the platform's.
        del result.scopes[:]
        result.scopes.extend(scope for scope in principal.scopes if scope != "platform")
    workspace = _value(headers, WORKSPACE)
    if workspace and workspace != result.workspace_id:
        if result.workspace_id or not exists(result.tenant_id, workspace):
            raise PlatformError.not_found("workspace", workspace)
        result.workspace_id = workspace
    role = _value(headers, ROLE)
    if role and role in principal.roles:
        del result.roles[:]
        result.roles.append(role)
    result.act_for = _value(headers, USER)
    return result


def _value(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if len(value) > MAXIMUM_CHARS or not value.isprintable():
        raise PlatformError.invalid(name, f"must be printable and at most {MAXIMUM_CHARS} characters")
    return value
