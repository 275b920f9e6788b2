"""One way in for every transport: headers (or gRPC metadata) in, `Authenticated` out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Protocol

from edge.auth import act_for
from edge.auth.apikey import ApiKeys
from edge.auth.bearer import BearerTokens, looks_like_token
from edge.auth.identity import Authenticated, KeyRecord
from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason

AUTHORIZATION: Final = "authorization"
ADMIN_KEY: Final = "x-admin-key"
HEADERS: Final = (AUTHORIZATION, ADMIN_KEY, *act_for.HEADERS)
"""Every header that authentication reads, lower case."""

_REMEMBERED: Final = 10_000


class Tenancy(Protocol):
    """What control has pushed about tenants and their settings."""

    def require_fresh(self, tenant_id: str) -> None:
        """SETTINGS_STALE if control has been away for longer than the tenant's profile allows."""

    def exists(self, tenant_id: str, workspace_id: str) -> bool:
        """Whether the workspace exists and may be used; with an empty workspace, the tenant."""

    def suspended(self, tenant_id: str, workspace_id: str) -> bool:
        """Whether the tenant or the workspace is suspended."""

    def may_act_for(self, record: KeyRecord) -> bool:
        """Whether the key may act for end users."""


class Authenticator:
    """Turns the credentials of a request into its principal."""

    def __init__(self, keys: ApiKeys, tokens: BearerTokens, tenancy: Tenancy) -> None:
        self._keys = keys
        self._tokens = tokens
        self._tenancy = tenancy
        # Principals of keys as pushed, so that a busy key costs one dictionary look-up (and one signature a minute).
        self._known: OrderedDict[str, tuple[KeyRecord, Authenticated]] = OrderedDict()

    async def authenticate(self, headers: Mapping[str, str]) -> Authenticated:
        """The caller. `headers` by lower-case name; only those of `HEADERS` are read.

        MISSING_CREDENTIALS, INVALID_API_KEY, EXPIRED_CREDENTIALS, POLICY_DENIED (suspended), SETTINGS_STALE,
        DEPENDENCY_UNAVAILABLE (nothing known yet and control away).
        """
        credential = _credential(headers)
        if looks_like_token(credential) and self._keys.pushed(credential) is None:
            return await self._by_token(credential, headers)
        record = await self._keys.authenticate(credential)
        self._tenancy.require_fresh(record.tenant_id)
        self._refuse_suspended(record.tenant_id, record.workspace_id)
        found = self._of_key(record)
        if act_for.asks(headers) and self._tenancy.may_act_for(record):
            return self._acting(found, headers)
        return found

    async def _by_token(self, token: str, headers: Mapping[str, str]) -> Authenticated:
        claims = await self._tokens.verify(token, headers.get(act_for.TENANT, ""))
        self._tenancy.require_fresh(claims.tenant_id)
        if not self._tenancy.exists(claims.tenant_id, ""):
            self._refuse_suspended(claims.tenant_id, "")
            raise PlatformError(Reason.INVALID_API_KEY, "the token is not valid here")
        self._refuse_suspended(claims.tenant_id, claims.workspace_id)
        if claims.workspace_id and not self._tenancy.exists(claims.tenant_id, claims.workspace_id):
            raise PlatformError(Reason.INVALID_API_KEY, "the token is not valid here")
        principal = Principal(
            tenant_id=claims.tenant_id,
            workspace_id=claims.workspace_id,
            subject=f"user:{claims.subject}",
            roles=claims.roles,
            scopes=claims.scopes,
        )
        return Authenticated(principal, {})

    def _of_key(self, record: KeyRecord) -> Authenticated:
        known = self._known.get(record.id)
        if known is not None and known[0] is record:
            return known[1]
        principal = Principal(
            tenant_id=record.tenant_id,
            workspace_id=record.workspace_id,
            subject=record.subject or f"key:{record.id}",
            roles=record.roles,
            scopes=record.scopes,
            api_key_id=record.id,
        )
        found = Authenticated(principal, record.settings, record)
        self._known[record.id] = (record, found)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _acting(self, found: Authenticated, headers: Mapping[str, str]) -> Authenticated:
        principal = act_for.narrowed(found.principal, headers, self._tenancy.exists, platform=found.is_platform)
        self._refuse_suspended(principal.tenant_id, principal.workspace_id)
        return Authenticated(principal, found.key_settings, found.key)

    def _refuse_suspended(self, tenant_id: str, workspace_id: str) -> None:
        if self._tenancy.suspended(tenant_id, workspace_id):
            raise PlatformError(
                Reason.POLICY_DENIED, "the tenant or workspace of this credential is suspended", rule="suspended"
            )


def _credential(headers: Mapping[str, str]) -> str:
    value = headers.get(AUTHORIZATION, "")
    if value:
        scheme, _, credential = value.partition(" ")
        if scheme.lower() != "bearer" or not credential.strip():
            raise PlatformError(Reason.INVALID_API_KEY, "the Authorization header must be 'Bearer <API key or token>'")
        return credential.strip()
    admin_key = headers.get(ADMIN_KEY, "").strip()
    if not admin_key:
        raise PlatformError(
            Reason.MISSING_CREDENTIALS, "no API key was sent; send it as 'Authorization: Bearer <API key>'"
        )
    return admin_key
