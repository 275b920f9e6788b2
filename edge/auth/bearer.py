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
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError, SecurityWarning
from joserfc.jws import JWSRegistry

from edge.auth.jwks import JsonWebKeys, pick, usable_keys
from kit.errors import PlatformError, Reason
from kit.settings.schema import JwtIssuer

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA",
)  # fmt: skip
"""Signature algorithms ever accepted: public-key ones. `none` and the shared-secret ones can never be switched on."""

MAXIMUM_TOKEN_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True)
class Issuer:
    """One trusted issuer, and whose settings trust it: `tenant_id` is empty for the operator's."""

    config: JwtIssuer
    tenant_id: str = ""
    workspace_id: str = ""

    @property
    def audience(self) -> str:
        """Value that `aud` must contain; empty: not checked."""
        return self.config.audience


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says about its holder."""

    tenant_id: str
    workspace_id: str
    subject: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]


def looks_like_token(credential: str) -> bool:
    """Whether the credential has the form of a compact JWT."""
    return credential.startswith("eyJ") and credential.count(".") == 2


class BearerTokens:
    """Verifies tokens against the issuers that settings name at that moment."""

    def __init__(
        self,
        keys: JsonWebKeys,
        issuers: Callable[[str], Sequence[Issuer]],
        trusts: Callable[[str, JwtIssuer], bool],
        clock_skew_s: int = 60,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock_skew_s = clock_skew_s
        self._keys = keys
        self._issuers = issuers
        self._trusts = trusts
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
        accepted: list[tuple[Issuer, Claims]] = []
        failure: PlatformError | None = None
        for issuer in self._issuers(str(claims.get("iss", ""))):
            try:
                found = await self._verify(token, issuer, kid if isinstance(kid, str) else None, algorithm)
                accepted.append((issuer, found))
            except PlatformError as error:
                failure = _more_telling(failure, error)
        if not accepted:
            raise failure or _refused()
        return _chosen(accepted, tenant_hint)

    async def _verify(self, token: str, issuer: Issuer, kid: str | None, algorithm: str) -> Claims:
        config = issuer.config
        if algorithm not in config.algorithms:
            raise _refused()
        if config.jwks_url:
            key = await self._keys.key(config.jwks_url, kid, algorithm)
        else:
            key = pick(usable_keys(config.jwks), kid, algorithm)
        if key is None:
            raise _refused()
        registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        options: dict[str, Any] = {"iss": {"essential": True, "value": config.issuer}, "exp": {"essential": True}}
        if config.audience:
            options["aud"] = {"essential": True, "value": config.audience}
        rules = jwt.JWTClaimsRegistry(now=lambda: int(self._clock()), leeway=self._clock_skew_s, **options)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # "EdDSA" is deprecated, and what issuers still send
                decoded = jwt.decode(token, key, registry=registry)
            rules.validate(decoded.claims)
        except ExpiredTokenError as error:
            raise PlatformError(Reason.EXPIRED_CREDENTIALS, "the token has expired") from error
        except (JoseError, ValueError, TypeError) as error:
            raise _refused() from error
        claims = _claims(decoded.claims, issuer)
        if not issuer.tenant_id and not self._trusts(claims.tenant_id, config):
            raise _refused()
        return claims


def _chosen(accepted: list[tuple[Issuer, Claims]], tenant_hint: str) -> Claims:
    """The one configuration that is meant. One that checks the audience says more than one that does not."""
    if any(issuer.audience for issuer, _ in accepted):
        accepted = [(issuer, claims) for issuer, claims in accepted if issuer.audience]
    distinct = list({(claims.tenant_id, claims.workspace_id): claims for _, claims in accepted}.values())
    if len(distinct) > 1:
        distinct = [claims for claims in distinct if claims.tenant_id == tenant_hint]
    if len(distinct) != 1:
        raise _refused("several tenants accept this token; name one in x-tenant-id")
    return distinct[0]


def _more_telling(first: PlatformError | None, second: PlatformError) -> PlatformError:
    """ "Unreachable" says more than "expired", and that more than "unknown"."""
    if first is None or first.reason is Reason.INVALID_API_KEY:
        return second
    return second if second.reason is Reason.DEPENDENCY_UNAVAILABLE else first


def _claims(claims: Mapping[str, Any], issuer: Issuer) -> Claims:
    config = issuer.config
    told_tenant = _text(_at(claims, config.tenant_claim))
    tenant = issuer.tenant_id or told_tenant
    subject = _text(_at(claims, config.subject_claim))
    if not tenant or not subject:
        raise _refused("the token does not tell its tenant or subject")
    if config.tenant_claim and told_tenant != tenant:
        raise _refused()  # signed for another tenant of the same issuer
    told_workspace = _text(_at(claims, config.workspace_claim))
    if issuer.workspace_id and told_workspace not in ("", issuer.workspace_id):
        raise _refused()
    roles = [*config.default_roles]
    for value in _texts(_at(claims, config.roles_claim)):
        roles.extend(config.role_map.get(value, ()))
    # A tenant's own settings can hand out what a tenant has, never the platform.
    scopes = [scope for scope in config.scopes if scope != "platform" or not issuer.tenant_id]
    return Claims(
        tenant_id=tenant,
        workspace_id=issuer.workspace_id or told_workspace,
        subject=subject,
        roles=tuple(dict.fromkeys(roles)),
        scopes=tuple(scopes),
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
