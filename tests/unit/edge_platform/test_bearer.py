"""Tokens of external issuers, over a real key-set server."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwk, jwt
from joserfc.errors import SecurityWarning
from joserfc.jws import JWSRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit.errors import PlatformError, Reason
from tests.unit.edge_platform.serving import served

pytestmark = pytest.mark.req("PR-026")

ISSUER = "https://idp.example"


class Idp:
    """An issuer whose keys can be rotated."""

    def __init__(self) -> None:
        self.keys = [jwk.ECKey.generate_key("P-256", {"kid": "one"})]
        self.fetches = 0
        self.broken = False
        self.app = Starlette(routes=[Route("/jwks", self._jwks)])
        self.url = ""

    async def _jwks(self, _: Request) -> Response:
        self.fetches += 1
        if self.broken:
            return Response(status_code=500)
        return JSONResponse({"keys": [{"kty": "unknown"}, *(key.as_dict(private=False) for key in self.keys)]})

    def token(self, now: float, **claims: Any) -> str:
        body = {"iss": ISSUER, "sub": "ann", "aud": "fastchat", "exp": now + 600, **claims}
        return jwt.encode({"alg": "ES256", "kid": self.keys[-1].kid}, body, self.keys[-1])

    def config(self, **more: Any) -> dict[str, Any]:
        return {
            "issuer": ISSUER,
            "jwks_url": f"{self.url}/jwks",
            "audience": "fastchat",
            "algorithms": ["ES256"],
            **more,
        }


@pytest.fixture
async def idp(door):
    made = Idp()
    async with served(made.app) as client:
        made.url = str(client.base_url).rstrip("/")
        door.control.tenant("acme")
        trust(door, "acme", made.config())
        yield made


def trust(door, tenant: str, *configs: dict[str, Any], name: str = "tenant") -> None:
    door.control.settings(tenant, {"security": {"jwt": list(configs)}}, name=name)


async def enter(door, token: str, **headers: str) -> Any:
    return (await door.authenticator.authenticate({"authorization": f"Bearer {token}", **headers})).principal


async def refused(door, token: str, **headers: str) -> Reason:
    with pytest.raises(PlatformError) as caught:
        await enter(door, token, **headers)
    return caught.value.reason


async def test_a_token_is_its_tenants_user_with_mapped_roles(door, idp):
    door.control.workspace("acme", "lab")
    mapped = {"roles_claim": "realm.groups", "role_map": {"admins": ["admin"]}, "workspace_claim": "https://x/ws"}
    trust(door, "acme", idp.config(**mapped, scopes=["chat", "admin", "platform"]))
    claims = {"realm": {"groups": ["admins", "others", "service"]}, "https://x/ws": "lab"}
    principal = await enter(door, idp.token(door.clock.now, **claims))
    assert (principal.tenant_id, principal.workspace_id, principal.subject) == ("acme", "lab", "user:ann")
    assert list(principal.roles) == ["member", "admin"]
    assert list(principal.scopes) == ["chat", "admin"], "a tenant's settings cannot hand out the platform"


async def test_keys_are_fetched_once_for_many_tokens(door, idp):
    for _ in range(5):
        await enter(door, idp.token(door.clock.now))
    assert idp.fetches == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody else"},
        {"aud": None},
        {"iss": "https://other.example"},
        {"nbf": 1_800_000_000 + 3600},
        {"iat": 1_800_000_000 + 3600},
        {"sub": ""},
        {"exp": "soon"},
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(door, idp, claims):
    assert await refused(door, idp.token(door.clock.now, **claims)) is Reason.INVALID_API_KEY


async def test_expiry_counts_with_some_clock_skew(door, idp):
    token = idp.token(door.clock.now)
    door.clock.now += 630
    await enter(door, token)
    door.clock.now += 60
    assert await refused(door, token) is Reason.EXPIRED_CREDENTIALS


async def test_a_rotated_key_is_fetched_and_a_withdrawn_one_stops_counting(door, idp):
    old = idp.token(door.clock.now, exp=door.clock.now + 9999)
    await enter(door, old)
    idp.keys = [jwk.ECKey.generate_key("P-256", {"kid": "two"})]
    door.clock.now += 20
    await enter(door, idp.token(door.clock.now))
    assert idp.fetches == 2
    assert await refused(door, old) is Reason.INVALID_API_KEY


async def test_made_up_key_ids_do_not_hammer_the_issuer(door, idp):
    await enter(door, idp.token(door.clock.now))
    stranger = Idp()
    for number in range(10):
        stranger.keys = [jwk.ECKey.generate_key("P-256", {"kid": f"made-up-{number}"})]
        assert await refused(door, stranger.token(door.clock.now)) is Reason.INVALID_API_KEY
    assert idp.fetches == 1
    door.clock.now += 11
    await refused(door, stranger.token(door.clock.now))
    assert idp.fetches == 2


async def test_known_keys_stay_good_while_the_issuer_is_away(door, idp):
    await enter(door, idp.token(door.clock.now))
    idp.broken = True
    door.clock.now += 3600
    await enter(door, idp.token(door.clock.now))


async def test_an_issuer_that_was_never_reached_is_said(door, idp):
    idp.broken = True
    assert await refused(door, idp.token(door.clock.now)) is Reason.DEPENDENCY_UNAVAILABLE


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"alg": "ES256", "crit": ["b64"]}])
async def test_unsafe_headers_are_refused(door, idp, header):
    secret = jwk.OctKey.import_key("0123456789012345678901234567890123456789")
    key = secret if header["alg"] == "HS256" else idp.keys[0]
    token = idp.token(door.clock.now)
    if header["alg"] == "HS256":
        token = jwt.encode(header, {"iss": ISSUER}, key, registry=JWSRegistry(algorithms=["HS256"]))
    else:
        import base64
        import json

        forged = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
        token = ".".join([forged, *token.split(".")[1:]])
    assert await refused(door, token) is Reason.INVALID_API_KEY


async def test_an_algorithm_outside_the_issuers_list_is_refused(door, idp):
    trust(door, "acme", idp.config(algorithms=["RS256"]))
    assert await refused(door, idp.token(door.clock.now)) is Reason.INVALID_API_KEY


async def test_a_forged_signature_is_refused(door, idp):
    stranger = Idp()
    assert await refused(door, stranger.token(door.clock.now)) is Reason.INVALID_API_KEY


async def test_a_tenants_own_issuer_never_yields_another_tenant(door, idp):
    door.control.tenant("beta")
    trust(door, "acme", idp.config(tenant_claim="tenant"))
    assert (await enter(door, idp.token(door.clock.now, tenant="acme"))).tenant_id == "acme"
    assert await refused(door, idp.token(door.clock.now, tenant="beta")) is Reason.INVALID_API_KEY


async def test_the_operators_issuer_tells_the_tenant_by_a_claim(door, idp):
    door.control.settings("acme", {})
    door.control.tenant("beta")
    trust(door, "", idp.config(tenant_claim="org"), name="environment")
    assert (await enter(door, idp.token(door.clock.now, org="beta"))).tenant_id == "beta"
    assert await refused(door, idp.token(door.clock.now, org="nowhere")) is Reason.INVALID_API_KEY
    assert await refused(door, idp.token(door.clock.now)) is Reason.INVALID_API_KEY


async def test_a_tenant_that_names_its_own_issuers_shuts_the_operators_out(door, idp):
    trust(door, "", idp.config(tenant_claim="org"), name="environment")
    trust(door, "acme", idp.config(issuer="https://own.example"))
    assert await refused(door, idp.token(door.clock.now, org="acme")) is Reason.INVALID_API_KEY


async def test_a_token_that_two_tenants_accept_needs_the_tenant_told(door, idp):
    door.control.tenant("beta")
    trust(door, "beta", idp.config())
    token = idp.token(door.clock.now)
    assert await refused(door, token) is Reason.INVALID_API_KEY
    assert (await enter(door, token, **{"x-tenant-id": "beta"})).tenant_id == "beta"


async def test_who_checks_no_audience_cannot_take_over_anothers_users(door, idp):
    door.control.tenant("beta")
    trust(door, "beta", idp.config(audience=""))
    assert (await enter(door, idp.token(door.clock.now))).tenant_id == "acme"


async def test_a_changed_or_removed_issuer_counts_at_once(door, idp):
    token = idp.token(door.clock.now)
    await enter(door, token)
    trust(door, "acme")
    assert await refused(door, token) is Reason.INVALID_API_KEY


async def test_inline_keys_need_no_server(door):
    idp = Idp()
    door.control.tenant("acme")
    inline = {"keys": [idp.keys[0].as_dict(private=False)]}
    trust(door, "acme", {"issuer": ISSUER, "jwks": inline, "algorithms": ["ES256"]})
    assert (await enter(door, idp.token(door.clock.now))).subject == "user:ann"


async def test_eddsa_tokens_work(door):
    key = jwk.OKPKey.generate_key("Ed25519", {"kid": "e"})
    door.control.tenant("acme")
    trust(door, "acme", {"issuer": ISSUER, "jwks": {"keys": [key.as_dict(private=False)]}})
    body = {"iss": ISSUER, "sub": "ann", "exp": door.clock.now + 60}
    with pytest.warns(SecurityWarning):
        token = jwt.encode({"alg": "EdDSA", "kid": "e"}, body, key, registry=JWSRegistry(algorithms=["EdDSA"]))
    assert (await enter(door, token)).subject == "user:ann"


async def test_users_of_a_suspended_tenant_are_refused(door, idp):
    door.control.tenant("acme", "suspended")
    assert await refused(door, idp.token(door.clock.now)) is Reason.POLICY_DENIED
