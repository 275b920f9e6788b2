"""The admin routes over real HTTP, before a control plane in memory."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import httpx
import pytest

from edge.api import site
from edge.config import EdgeConfig
from edge.limits import Limits
from kit.admission import Admission
from kit.health import Health
from tests.unit.edge_platform.plane import Plane
from tests.unit.edge_platform.serving import served

ROOT = {"authorization": "Bearer root"}
BOSS = {"authorization": "Bearer boss"}


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def deps(door, plane):
    return SimpleNamespace(
        config=EdgeConfig(),
        authenticator=door.authenticator,
        limits=Limits(door.pushed),
        clients=plane.clients(),
        settings=door.cache,
        health=Health(critical=["database"]),
        mesh=SimpleNamespace(bus=None, replica="h1"),
        policy=SimpleNamespace(require=lambda *_: None),
        audit=None,
        database=None,
        keyring=None,
        threads=None,
        history=None,
    )


@pytest.fixture
async def client(door, deps):
    door.control.tenant("acme")
    door.control.key("root", "default", roles=["admin"], scopes=["chat", "admin", "platform"])
    door.control.key("boss", "acme", roles=["admin"], scopes=["chat", "admin"])
    async with served(site.build(deps, door.pushed, Admission())) as client:
        yield client


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    told = response.json()["error"]
    return response.status_code, told["code"], told["param"]


async def test_a_tenant_is_made_read_changed_and_removed(client, plane):
    made = await client.post("/v1/admin/tenants", headers=ROOT, json={"id": "beta", "name": "Beta"})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/admin/tenants/beta")
    assert made.json() | {"created_at": None, "updated_at": None} == {
        "id": "beta",
        "object": "tenant",
        "name": "Beta",
        "status": "active",
        "created_at": None,
        "updated_at": None,
        "etag": "e1",
    }
    changed = await client.patch("/v1/admin/tenants/beta", headers=ROOT, json={"status": "suspended"})
    assert (changed.json()["name"], changed.json()["status"]) == ("Beta", "suspended")
    gone = await client.delete("/v1/admin/tenants/beta", headers=ROOT)
    assert gone.json() == {"id": "beta", "object": "tenant.deleted", "deleted": True}
    assert error(await client.get("/v1/admin/tenants/beta", headers=ROOT)) == (404, "not_found", None)
    assert {subject for _, _, subject in plane.asked} == {"app:root"}, "control hears who asks"


async def test_versions_guard_changes_and_save_reading(client):
    await client.post("/v1/admin/tenants", headers=ROOT, json={"id": "beta", "name": "Beta"})
    read = await client.get("/v1/admin/tenants/beta", headers=ROOT)
    tag = read.headers["etag"]
    assert tag == '"e1"'
    same = await client.get("/v1/admin/tenants/beta", headers=ROOT | {"if-none-match": f'"other", {tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    first = await client.patch("/v1/admin/tenants/beta", headers=ROOT | {"if-match": tag}, json={"name": "B"})
    assert first.headers["etag"] != tag
    late = await client.patch("/v1/admin/tenants/beta", headers=ROOT | {"if-match": tag}, json={"name": "C"})
    assert error(late) == (412, "etag_mismatch", None)
    forced = await client.patch("/v1/admin/tenants/beta", headers=ROOT | {"if-match": "*"}, json={"name": "C"})
    assert forced.status_code == 200
    odd = await client.patch("/v1/admin/tenants/beta", headers=ROOT | {"if-match": '"a", "b"'}, json={"name": "C"})
    assert error(odd) == (400, "invalid_value", "If-Match")


async def test_pages_follow_each_other_by_token_and_by_link(client):
    for name in ("a", "b", "c"):
        await client.post("/v1/admin/tenants", headers=ROOT, json={"id": name, "name": name})
    page = await client.get("/v1/admin/tenants?limit=2", headers=ROOT)
    assert [tenant["id"] for tenant in page.json()["data"]] == ["a", "b"]
    assert (page.json()["has_more"], page.json()["next_page_token"]) == (True, "c")
    assert page.headers["link"] == '</v1/admin/tenants?limit=2&after=c>; rel="next"'
    last = await client.get(page.links["next"]["url"], headers=ROOT)
    assert [tenant["id"] for tenant in last.json()["data"]] == ["c"]
    assert (last.json()["has_more"], last.json()["next_page_token"], "link" in last.headers) == (False, None, False)


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/v1/admin/tenants", {"id": "Not An Id", "name": "x"}, "id"),
        ("POST", "/v1/admin/tenants", {"id": "x"}, "name"),
        ("POST", "/v1/admin/tenants", {"name": "x", "naem": "y"}, "naem"),
        ("PATCH", "/v1/admin/tenants/a", {"status": "asleep"}, "status"),
        ("POST", "/v1/admin/api-keys", {"expires_at": "tomorrow"}, "expires_at"),
        ("POST", "/v1/admin/api-keys", {"roles": ["", "b"]}, "roles[0]"),
        ("PATCH", "/v1/admin/api-keys/key_1", {"expires_at": None}, "expires_at"),
        ("POST", "/v1/admin/model-registry", {"litellm": {}}, "alias"),
        ("PUT", "/v1/admin/model-registry/a", {"alias": "b"}, "alias"),
        ("PUT", "/v1/admin/policies/a", {"enabled": True}, "cedar"),
        ("PUT", "/v1/admin/settings", {"settings": []}, "settings"),
        ("GET", "/v1/admin/tenants?limit=0", None, "limit"),
        ("GET", "/v1/admin/settings?layer=all", None, "layer"),
        ("GET", "/v1/admin/audit?start_time=noon", None, "start_time"),
    ],
)
async def test_what_is_wrong_is_named(client, method, path, body, field):
    answer = await client.request(method, path, headers=ROOT, json=body)
    assert error(answer) == (400, "invalid_value", field)


async def test_a_key_is_told_once(client):
    body = {
        "tenant_id": "acme",
        "workspace_id": "lab",
        "subject": "app:x",
        "roles": ["operator"],
        "scopes": ["chat"],
        "expires_at": "2030-01-01T00:00:00Z",
        "settings": {"limits": {"requests_per_minute": 5}},
    }
    made = await client.post("/v1/admin/api-keys", headers=ROOT, json=body)
    told = made.json()
    assert (made.status_code, told["key"], told["prefix"]) == (201, "fc_abcdef", "fc_abc")
    assert made.headers["cache-control"] == "no-store"
    assert {name: told[name] for name in body} == body
    read = await client.get("/v1/admin/api-keys/key_1?tenant_id=acme", headers=ROOT)
    assert "key" not in read.json()
    listed = await client.get("/v1/admin/api-keys?tenant_id=acme", headers=ROOT)
    assert [sorted(key) for key in listed.json()["data"]] == [sorted(read.json())]


async def test_replacing_roles_keeps_scopes(client):
    await client.post("/v1/admin/api-keys", headers=BOSS, json={"roles": ["member"], "scopes": ["chat"]})
    changed = await client.patch("/v1/admin/api-keys/key_1", headers=BOSS, json={"roles": ["viewer"]})
    assert (changed.json()["roles"], changed.json()["scopes"]) == (["viewer"], ["chat"])


async def test_revoking_minds_the_version(client):
    await client.post("/v1/admin/api-keys", headers=BOSS, json={})
    old = await client.delete("/v1/admin/api-keys/key_1", headers=BOSS | {"if-match": '"old"'})
    assert error(old) == (412, "etag_mismatch", None)
    gone = await client.delete("/v1/admin/api-keys/key_1", headers=BOSS | {"if-match": '"k1"'})
    assert gone.json() == {"id": "key_1", "object": "api_key.deleted", "deleted": True}


async def test_an_alias_with_a_slash_is_one_alias(client):
    entry = {"alias": "openai/gpt-4o", "litellm": {"model": "openai/gpt-4o"}, "mode": "chat"}
    made = await client.post("/v1/admin/model-registry", headers=ROOT, json=entry)
    assert (made.status_code, made.json()["entry"], made.json()["tenant_id"]) == (201, entry, "")
    read = await client.get("/v1/admin/model-registry/openai/gpt-4o", headers=ROOT)
    assert read.json()["origin"] == "registry"
    put = await client.put("/v1/admin/model-registry/openai/gpt-4o", headers=ROOT, json={"litellm": {"model": "x"}})
    assert put.json()["entry"] == {"alias": "openai/gpt-4o", "litellm": {"model": "x"}}


async def test_a_tenants_admin_writes_the_tenants_own_rows(client, plane):
    await client.post("/v1/admin/model-registry", headers=BOSS, json={"alias": "a"})
    assert list(plane.entries) == [("acme", "a")]


async def test_settings_tell_layers_and_origins(client):
    put = await client.put("/v1/admin/settings", headers=BOSS, json={"settings": {"limits": {"tool_calling": False}}})
    assert (put.json()["layer"], put.headers["etag"]) == ("tenant", '"s2"')
    read = (await client.get("/v1/admin/settings", headers=BOSS)).json()
    assert (read["tenant_id"], read["layer"], read["origins"]) == ("acme", "effective", {"a.b": "tenant"})
    layer = (await client.get("/v1/admin/settings?layer=tenant", headers=BOSS)).json()
    assert (layer["settings"], layer["origins"]) == ({"limits": {"tool_calling": False}}, None)


async def test_audit_is_read_with_its_filters(client, plane):
    query = "action=model.*&subject=ann&start_time=2026-01-01T00:00:00Z&limit=7"
    found = (await client.get(f"/v1/admin/audit?{query}", headers=BOSS)).json()["data"][0]
    assert (found["tenant_id"], found["decision"], found["details"]) == ("acme", "deny", {"x": 1})
    asked = plane.asked[-1][1]
    assert (asked.action, asked.subject, asked.page_size, asked.tenant_id) == ("model.*", "ann", 7, "acme")
    assert asked.start_time.ToJsonString() == "2026-01-01T00:00:00Z"


FOREIGN = [
    ("GET", "/v1/admin/tenants/{tenant}", None),
    ("PATCH", "/v1/admin/tenants/{tenant}", {"name": "x"}),
    ("PATCH", "/v1/admin/tenants/{tenant}", {"status": "suspended"}),
    ("DELETE", "/v1/admin/tenants/{tenant}", None),
    ("POST", "/v1/admin/workspaces", {"tenant_id": "{tenant}", "name": "x"}),
    ("GET", "/v1/admin/workspaces?tenant_id={tenant}", None),
    ("GET", "/v1/admin/workspaces/lab?tenant_id={tenant}", None),
    ("PATCH", "/v1/admin/workspaces/lab?tenant_id={tenant}", {"name": "x"}),
    ("DELETE", "/v1/admin/workspaces/lab?tenant_id={tenant}", None),
    ("POST", "/v1/admin/api-keys", {"tenant_id": "{tenant}"}),
    ("GET", "/v1/admin/api-keys?tenant_id={tenant}", None),
    ("GET", "/v1/admin/api-keys/key_1?tenant_id={tenant}", None),
    ("PATCH", "/v1/admin/api-keys/key_1?tenant_id={tenant}", {"name": "x"}),
    ("DELETE", "/v1/admin/api-keys/key_1?tenant_id={tenant}", None),
    ("POST", "/v1/admin/model-registry", {"tenant_id": "{tenant}", "alias": "a"}),
    ("GET", "/v1/admin/model-registry?tenant_id={tenant}", None),
    ("GET", "/v1/admin/model-registry/a?tenant_id={tenant}", None),
    ("PUT", "/v1/admin/model-registry/a?tenant_id={tenant}", {"litellm": {}}),
    ("DELETE", "/v1/admin/model-registry/a?tenant_id={tenant}", None),
    ("POST", "/v1/admin/policies", {"tenant_id": "{tenant}", "name": "a", "cedar": "x"}),
    ("GET", "/v1/admin/policies?tenant_id={tenant}", None),
    ("GET", "/v1/admin/policies/a?tenant_id={tenant}", None),
    ("PUT", "/v1/admin/policies/a?tenant_id={tenant}", {"cedar": "x"}),
    ("DELETE", "/v1/admin/policies/a?tenant_id={tenant}", None),
    ("GET", "/v1/admin/settings?tenant_id={tenant}", None),
    ("PUT", "/v1/admin/settings", {"tenant_id": "{tenant}", "settings": {}}),
    ("GET", "/v1/admin/audit?tenant_id={tenant}", None),
]


@pytest.mark.req("PR-030")
@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
async def test_another_tenant_is_like_one_that_does_not_exist(client, plane, door, method, path, body):
    door.control.tenant("beta")
    plane.CreateTenant(SimpleNamespace(id="beta", name="Beta"))
    seen = []
    for tenant in ("beta", "nobody"):
        text = json.dumps(body).replace("{tenant}", tenant)
        answer = await client.request(method, path.format(tenant=tenant), headers=BOSS, json=json.loads(text))
        headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
        headers["content-length"] = str(int(headers["content-length"]) - len(tenant))
        seen.append((answer.status_code, headers, answer.text.replace(tenant, "{tenant}")))
    assert seen[0] == seen[1]
    assert seen[0][0] == 404
    assert plane.asked == [], "control is not even asked"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/admin/tenants", {"name": "x"}),
        ("DELETE", "/v1/admin/tenants/acme", None),
        ("PATCH", "/v1/admin/tenants/acme", {"status": "suspended"}),
        ("POST", "/v1/admin/api-keys", {"scopes": ["platform"]}),
    ],
)
async def test_what_is_the_platforms_needs_its_scope(client, method, path, body):
    assert error(await client.request(method, path, headers=BOSS, json=body)) == (403, "missing_scope", None)


@pytest.mark.req("FR-030")
async def test_readiness_tells_what_is_down_and_what_still_works(client, deps):
    deps.health.set("control", False, "silent for 9 s", "everything goes on with the last settings")
    waiting = await client.get("/health/ready")
    assert (waiting.status_code, waiting.json()["status"]) == (503, "unavailable")
    deps.health.set("database", True)
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["dependencies"][0] == {
        "name": "control",
        "status": "down",
        "critical": False,
        "detail": "silent for 9 s",
        "impact": "everything goes on with the last settings",
    }
    assert (await client.get("/health/live")).json() == {"status": "ok"}
    deps.health.drain()
    assert (await client.get("/health")).json()["status"] == "draining"


async def test_metrics_are_served_without_a_key(client):
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert "fastchat_http_requests_total" in answer.text


async def test_the_documentation_describes_what_is_served(client):
    schema = (await client.get("/openapi.json")).json()
    text = str(schema)
    assert "HTTPValidationError" not in text
    names = set(schema["components"]["schemas"])
    assert {ref.rpartition("/")[2] for ref in re.findall(r"#/components/schemas/[\w.-]+", text)} <= names
    create = schema["paths"]["/v1/admin/api-keys"]["post"]
    assert sorted(create["responses"]) == ["201", "default"]
    assert create["security"] == [{"bearer": []}, {"admin_key": []}]
    assert "security" not in schema["paths"]["/health"]["get"]
    assert (await client.get("/docs")).status_code == 200


async def test_routes_of_later_releases_are_plainly_not_there(client):
    for path in ("/v1/responses", "/v1/files", "/v1/vector_stores", "/v1/admin/graph-versions"):
        assert error(await client.get(path, headers=ROOT)) == (404, "not_found", None)
