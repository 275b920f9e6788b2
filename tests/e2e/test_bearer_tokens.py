"""Tokens of an external issuer, over the running platform: who they make of their holder, and which are refused."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import httpx
import pytest
from joserfc import jwk, jwt

from fastchat.gateway.v1 import thread_service_pb2 as pb
from fastchat.gateway.v1.thread_service_pb2_grpc import ThreadServiceStub
from tests.support.stack import Stack, until

pytestmark = pytest.mark.req("PR-026")

AUDIENCE = "fastchat-tests"
THREADS = "/v1/threads"


def new_key() -> jwk.ECKey:
    return jwk.ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)})


@dataclass
class Issuer:
    """An issuer on loopback whose keys can be rotated."""

    url: str
    keys: list[jwk.ECKey] = field(default_factory=lambda: [new_key()])

    def token(self, key: jwk.ECKey | None = None, **claims: Any) -> str:
        """A token of the newest key, good for ten minutes."""
        key = key or self.keys[-1]
        told = {"iss": self.url, "sub": "ann", "aud": AUDIENCE, "exp": int(time.time()) + 600, **claims}
        return jwt.encode({"alg": "ES256", "kid": key.kid}, told, key)

    def key_set(self) -> bytes:
        """What /jwks answers."""
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = made.key_set()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Issuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tenant(stack: Stack, issuer: Issuer) -> Iterator[str]:
    """A tenant that trusts the issuer: its groups are roles, and a claim names the workspace."""
    name = f"idp-{secrets.token_hex(4)}"
    trust = {
        "issuer": issuer.url,
        "jwks_url": f"{issuer.url}/jwks",
        "audience": AUDIENCE,
        "algorithms": ["ES256"],
        "workspace_claim": "team",
        "roles_claim": "groups",
        "role_map": {"heads": ["admin"], "readers": ["viewer"], "writers": ["member"]},
        "default_roles": [],
        "scopes": ["chat", "admin"],
    }
    made = [
        stack.request("POST", "/v1/admin/tenants", {"id": name, "name": name}),
        stack.request("POST", "/v1/admin/workspaces", {"tenant_id": name, "id": "lab", "name": "lab"}),
        stack.request("PUT", "/v1/admin/settings", {"tenant_id": name, "settings": {"security": {"jwt": [trust]}}}),
    ]
    assert all(status in (200, 201) for status, _ in made), made
    yield name
    stack.request("DELETE", f"/v1/admin/tenants/{name}")


def ask(stack: Stack, token: str, method: str = "GET", path: str = THREADS, body: Any = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.request(method, stack.url + path, json=body, headers=headers, timeout=30)


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"]


def test_a_token_is_a_user_of_its_tenant_and_workspace(stack: Stack, issuer: Issuer, tenant: str) -> None:
    token = issuer.token(groups=["writers"], team="lab")
    made = ask(stack, token, "POST", body={"title": "mine"})
    assert (made.status_code, made.json()["user_id"]) == (201, "user:ann")
    thread = f"{THREADS}/{made.json()['id']}"
    assert ask(stack, token, path=thread).status_code == 200
    elsewhere = [issuer.token(groups=["heads"], sub="bob", team="lab"), issuer.token(groups=["heads"], team="default")]
    assert [ask(stack, other, path=thread).status_code for other in elsewhere] == [404, 404]
    spaces = ask(stack, issuer.token(groups=["heads"]), path="/v1/admin/workspaces").json()["data"]
    assert {space["tenant_id"] for space in spaces} == {tenant}


def test_groups_are_roles(stack: Stack, issuer: Issuer, tenant: str) -> None:
    reader, writer, head = (issuer.token(groups=[group]) for group in ("readers", "writers", "heads"))
    assert ask(stack, reader).status_code == 200
    assert refusal(ask(stack, reader, "POST", body={})) == (403, "permission_error", "policy_denied")
    assert ask(stack, writer, "POST", body={}).status_code == 201
    assert refusal(ask(stack, writer, path="/v1/admin/workspaces"))[0] == 403
    assert ask(stack, head, path="/v1/admin/workspaces").status_code == 200
    assert refusal(ask(stack, issuer.token(groups=["strangers"])))[0] == 403


def test_partners_may_bring_a_token(stack: Stack, issuer: Issuer, tenant: str) -> None:
    with grpc.insecure_channel(stack.grpc_target) as channel:
        metadata = (("authorization", f"Bearer {issuer.token(groups=['writers'])}"),)
        made = ThreadServiceStub(channel).CreateThread(pb.CreateThreadRequest(title="x"), metadata=metadata, timeout=10)
    assert made.thread.user_id == "user:ann"


def test_keys_are_rotated_without_a_restart(stack: Stack, issuer: Issuer, tenant: str) -> None:
    old = issuer.token(groups=["writers"])
    assert ask(stack, old).status_code == 200
    issuer.keys = [new_key()]
    new = issuer.token(groups=["writers"])
    until(lambda: ask(stack, new).status_code == 200, 5, lambda: ask(stack, new).text)
    assert refusal(ask(stack, old)) == (401, "invalid_request_error", "invalid_api_key")


def test_tokens_that_are_not_good_are_refused(stack: Stack, issuer: Issuer, tenant: str) -> None:
    good = issuer.token(groups=["writers"])
    assert ask(stack, good).status_code == 200
    expired = issuer.token(exp=int(time.time()) - 3600)
    assert refusal(ask(stack, expired)) == (401, "invalid_request_error", "expired_credentials")
    head, claims, signature = good.split(".")
    bad = {
        "wrong audience": issuer.token(aud="somebody else"),
        "unknown key": issuer.token(new_key()),
        "another's issuer": issuer.token(iss="http://127.0.0.1:9"),
        "unsigned": f"{_encoded({'alg': 'none', 'kid': issuer.keys[-1].kid})}.{claims}.",
        "none, signed": f"{_encoded({'alg': 'none'})}.{claims}.{signature}",
        "shared secret": f"{_encoded({'alg': 'HS256', 'kid': issuer.keys[-1].kid})}.{claims}.{signature}",
        "changed": f"{head}.{_encoded({'iss': issuer.url, 'sub': 'eve', 'aud': AUDIENCE})}.{signature}",
        "of no workspace": issuer.token(groups=["writers"], team="nowhere"),
    }
    answers = {name: refusal(ask(stack, token)) for name, token in bad.items()}
    assert answers == dict.fromkeys(bad, (401, "invalid_request_error", "invalid_api_key"))


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
