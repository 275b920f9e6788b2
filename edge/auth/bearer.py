"""Bearer tokens of external issuers (JWT, RFC 7519) become principals.

Which issuers count is data: `security.jwt` of the settings layers. An issuer that a tenant configured can only ever
yield that tenant; one that the operator configured (environment layer) may tell the tenant by a claim. Where several
configurations accept the same token, the tenant must be told by `x-tenant-id`; nothing is guessed.
"""

from __future__ import annotations

import base64
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError, SecurityWarning
from joserfc.jws import JWSRegistry
from kit.errors import PlatformError, Reason

from edge.auth.jwks import JsonWebKeys

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA",
)  # fmt: skip
"""Signature algorithms ever accepted: public-key ones. `none` and the shared-secret ones can never be switched on."""

MAXIMUM_TOKEN_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Issuer:
    """One trusted issuer, as one settings layer tells it.

    `tenant_id` is the tenant whose layer it is, empty for the operator's. Claim names may be dotted paths.
    """

    issuer: str
    jwks_uri: str
    audiences: tuple[str, ...]
    tenant_id: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    clock_skew_s: int = 60
    subject_claim: str = "sub"
    tenant_claim: str = ""
    workspace_claim: str = ""
    roles_claim: str = ""
    tenant: str = ""
    workspace: str = ""
    role_map: Mapping[str, str] = field(default_factory=dict)
    default_roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says about its holder. `expires_at` is in Unix seconds."""

    tenant_id: str
    workspace_id: str
    subject: str
    roles: tuple[str, ...]
    expires_at: float


def looks_like_token(credential: str) -> bool:
    """Whether the credential has the form of a compact JWT."""
    return credential.startswith("eyJ") and credential.count(".") == 2


class BearerTokens:
    """Verifies tokens against the issuers that settings name at that moment."""

    def __init__(
        self,
        keys: JsonWebKeys,
        issuers: Callable[[str], Sequence[Issuer]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuers = issuers
        self._clock = clock

    async def verify(self, token: str, tenant_hint: str = "") -> Claims:
        """The claims of a token that some configured issuer signed for us.

        INVALID_API_KEY if none did, EXPIRED_CREDENTIALS if it is too old, DEPENDENCY_UNAVAILABLE if its issuer's
        keys cannot be had.
        """
        header, claims = _peek(token)
        kid = header.get("kid")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or "crit" in header:
            raise _refused()
        accepted: list[Claims] = []
        failure: PlatformError | None = None
        for issuer in self._issuers(str(claims.get("iss", ""))):
            try:
                accepted.append(await self._verify(token, issuer, kid if isinstance(kid, str) else None, algorithm))
            except PlatformError as error:
                failure = _more_telling(failure, error)
        if len(accepted) > 1:
            accepted = [found for found in accepted if found.tenant_id == tenant_hint]
        if len(accepted) != 1:
            raise failure if failure is not None and not accepted else _refused()
        return accepted[0]

    async def _verify(self, token: str, issuer: Issuer, kid: str | None, algorithm: str) -> Claims:
        if algorithm not in issuer.algorithms or not issuer.audiences:
            raise _refused()
        key = await self._keys.key(issuer.jwks_uri, kid, algorithm)
        if key is None:
            raise _refused()
        registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        rules = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=issuer.clock_skew_s,
            iss={"essential": True, "value": issuer.issuer},
            aud={"essential": True, "values": list(issuer.audiences)},
            exp={"essential": True},
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # "EdDSA" is deprecated, and what issuers still send
                decoded = jwt.decode(token, key, registry=registry)
            rules.validate(decoded.claims)
        except ExpiredTokenError as error:
            raise PlatformError(Reason.EXPIRED_CREDENTIALS, "the token has expired") from error
        except (JoseError, ValueError, TypeError) as error:
            raise _refused() from error
        return _claims(decoded.claims, issuer)


def _more_telling(first: PlatformError | None, second: PlatformError) -> PlatformError:
    """"Unreachable" says more than "expired", and that more than "unknown"."""
    if first is None or first.reason is Reason.INVALID_API_KEY:
        return second
    return second if second.reason is Reason.DEPENDENCY_UNAVAILABLE else first


def _claims(claims: Mapping[str, Any], issuer: Issuer) -> Claims:
    tenant = issuer.tenant_id or _text(_at(claims, issuer.tenant_claim)) or issuer.tenant
    subject = _text(_at(claims, issuer.subject_claim))
    if not tenant or not subject:
        raise _refused("the token does not tell its tenant or subject")
    if issuer.tenant_claim and _text(_at(claims, issuer.tenant_claim)) not in ("", tenant):
        raise _refused()  # signed for another tenant of the same issuer
    told = _texts(_at(claims, issuer.roles_claim))
    roles = tuple(dict.fromkeys(issuer.role_map.get(role, "" if issuer.role_map else role) for role in told))
    return Claims(
        tenant_id=tenant,
        workspace_id=_text(_at(claims, issuer.workspace_claim)) or issuer.workspace,
        subject=subject,
        roles=tuple(role for role in roles if role) or issuer.default_roles,
        expires_at=float(claims["exp"]),
    )


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at a path; the whole path is tried as a name first, since URLs are common claim names."""
    if not path:
        return None
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(part for part in value if isinstance(part, str)) if isinstance(value, list) else ()


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, not verified: only to choose who is asked to verify them."""
    if len(token) > MAXIMUM_TOKEN_CHARS:
        raise _refused()
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused()
    return _segment(parts[0]), _segment(parts[1])


def _segment(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise _refused() from error
    if not isinstance(value, dict):
        raise _refused()
    return value


def _refused(message: str = "the token is not valid here") -> PlatformError:
    return PlatformError(Reason.INVALID_API_KEY, message)
