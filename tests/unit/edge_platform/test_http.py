"""The middlewares around a small application, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from edge.api import errors, site
from edge.auth import identity
from edge.config import CorsConfig, EdgeConfig, TimeoutConfig
from edge.limits import Limits
from kit.admission import Admission, AdmissionConfig
from kit.errors import PlatformError, Reason
from kit.principal import current
from kit.telemetry import current_request_id, metrics
from tests.unit.edge_platform.serving import served

KEY = {"authorization": "Bearer k1"}


class Thing(BaseModel):
    name: str
    sizes: list[int] = []


def misbehave(app: FastAPI) -> None:
    """Routes that fail, each in its way."""

    @app.get("/v1/broken")
    async def broken():
        raise RuntimeError("secret text")

    @app.get("/v1/busy")
    async def busy():
        raise PlatformError(Reason.OVERLOADED, "too much", retry_after_s=2.4)

    @app.get("/v1/stuck")
    async def stuck():
        await asyncio.Event().wait()

    @app.get("/v1/half")
    async def half():
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise RuntimeError("secret text")

        return StreamingResponse(parts())

    @app.get("/v1/slow-stream")
    async def slow_stream():
        async def parts() -> AsyncIterator[bytes]:
            for part in (b"a", b"b", b"c"):
                yield part
                await asyncio.sleep(0.08)  # longer in all than the first byte may take

        return StreamingResponse(parts())


def application(door, admission: Admission, **config) -> FastAPI:
    told = EdgeConfig(**config)
    deps = SimpleNamespace(config=told, authenticator=door.authenticator, limits=Limits(door.pushed, door.clock))
    app = FastAPI(middleware=site.middlewares(deps, door.pushed, admission), redirect_slashes=False)
    errors.install(app)
    misbehave(app)

    @app.get("/v1/who")
    async def who(request: Request):
        assert identity(request.scope).principal is current()
        return {"tenant": current().tenant_id, "request_id": current_request_id()}

    @app.get("/v1/admin/who")
    async def admin():
        return {}

    @app.post("/v1/things")
    async def things(thing: Thing):
        return thing

    @app.post("/v1/raw")
    async def raw(request: Request):
        return {"bytes": len(await request.body())}

    @app.get("/health/live")
    async def live():
        return Response("ok")

    return app


@pytest.fixture
def admission():
    return Admission(AdmissionConfig(interactive=2))


@pytest.fixture
async def client(door, admission):
    door.control.tenant("acme")
    door.control.key("k1", "acme")
    door.control.key("boss", "acme", roles=["admin"], scopes=["chat", "admin"])
    async with served(application(door, admission, max_body_bytes=1000)) as client:
        yield client


async def until(holds) -> None:
    for _ in range(5000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


def problem(response: httpx.Response) -> tuple[int, str, str, str | None]:
    told = response.json()
    assert list(told) == ["error"]
    assert sorted(told["error"]) == ["code", "message", "param", "type"]
    return response.status_code, told["error"]["type"], told["error"]["code"], told["error"]["param"]


@pytest.mark.req("FR-033")
async def test_a_well_formed_request_id_is_kept_and_told(client):
    answer = await client.get("/v1/who", headers={**KEY, "x-request-id": "trace-1.a:b_c"})
    assert answer.json() == {"tenant": "acme", "request_id": "trace-1.a:b_c"}
    assert answer.headers["x-request-id"] == "trace-1.a:b_c"


@pytest.mark.parametrize("sent", ["", "with space", "x" * 129, "semi;colon"])
async def test_another_request_id_is_replaced(client, sent):
    answer = await client.get("/v1/who", headers={**KEY, "x-request-id": sent})
    assert answer.headers["x-request-id"].startswith("req_")


async def test_errors_carry_the_request_id_too(client):
    answer = await client.get("/v1/who")
    assert problem(answer) == (401, "invalid_request_error", "missing_credentials", None)
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_wrong_key_is_401(client):
    answer = await client.get("/v1/who", headers={"authorization": "Bearer nope"})
    assert problem(answer)[:3] == (401, "invalid_request_error", "invalid_api_key")


async def test_admin_routes_need_the_admin_scope(client):
    assert problem(await client.get("/v1/admin/who", headers=KEY))[:3] == (403, "permission_error", "missing_scope")
    assert (await client.get("/v1/admin/who", headers={"x-admin-key": "boss"})).status_code == 200


async def test_unknown_routes_and_methods_have_the_shape_of_errors(client):
    assert problem(await client.get("/v1/nothing", headers=KEY))[:2] == (404, "invalid_request_error")
    wrong = await client.put("/v1/who", headers=KEY)
    assert problem(wrong)[2] == "method_not_allowed"
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


async def test_malformed_json_is_told_with_line_and_column(client):
    answer = await client.post(
        "/v1/things", headers=KEY | {"content-type": "application/json"}, content=b'{\n "name": ?}'
    )
    assert problem(answer)[:3] == (400, "invalid_request_error", "malformed_request")
    assert "line 2, column 10" in answer.json()["error"]["message"]


async def test_a_wrong_field_is_named(client):
    answer = await client.post("/v1/things", headers=KEY, json={"name": "n", "sizes": [1, "two"]})
    assert problem(answer) == (400, "invalid_request_error", "invalid_value", "sizes[1]")


async def test_a_body_that_is_no_object_is_told_so(client):
    answer = await client.post("/v1/things", headers=KEY, content=b"")
    assert problem(answer)[:3] == (400, "invalid_request_error", "malformed_request")


@pytest.mark.parametrize("path", ["/v1/raw", "/v1/things"])
async def test_a_body_above_the_limit_is_413_with_and_without_a_declared_length(client, path):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    headers = KEY | {"content-type": "application/json"}
    for content in (b"x" * 3000, chunks()):
        answer = await client.post(path, headers=headers, content=content)
        assert problem(answer)[::2] == (413, "payload_too_large")


async def test_a_tenants_narrower_body_limit_counts(client, door):
    door.control.settings("acme", {"limits": {"max_body_bytes": 10}})
    answer = await client.post("/v1/raw", headers=KEY, content=b"x" * 11)
    assert answer.status_code == 413
    assert (await client.post("/v1/raw", headers=KEY, content=b"x" * 10)).json() == {"bytes": 10}


async def test_nobodys_body_is_read_before_they_are_known(client):
    assert (await client.post("/v1/raw", content=b"x" * 3000)).status_code == 401


async def test_an_unexpected_error_leaks_nothing(client):
    answer = await client.get("/v1/broken", headers=KEY)
    assert problem(answer)[:3] == (500, "server_error", "internal_error")
    assert "secret" not in answer.text


async def test_retry_after_is_whole_seconds_rounded_up(client):
    answer = await client.get("/v1/busy", headers=KEY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


async def test_an_answer_that_breaks_in_the_middle_never_looks_complete(client):
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/v1/half", headers=KEY)


async def test_no_answer_in_time_is_504_but_a_running_stream_is_not_cut(door, admission):
    door.control.key("k1", "acme")
    app = application(door, admission, timeouts=TimeoutConfig(first_byte_s=0.15))
    async with served(app) as client:
        assert problem(await client.get("/v1/stuck", headers=KEY))[::2] == (504, "deadline_exceeded")
        assert (await client.get("/v1/slow-stream", headers=KEY)).text == "abc"


async def test_a_body_that_stops_arriving_is_given_up(door, admission):
    door.control.key("k1", "acme")
    async with served(application(door, admission, timeouts=TimeoutConfig(body_idle_s=0.1))) as client:
        never = asyncio.Event()

        async def stalling() -> AsyncIterator[bytes]:
            yield b"x"
            await never.wait()

        sending = asyncio.create_task(client.post("/v1/raw", headers=KEY, content=stalling()))
        done, _ = await asyncio.wait({sending}, timeout=0.1)
        assert not done
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"POST /v1/raw HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k1\r\ncontent-length: 5\r\n\r\nab")
        assert b" 504 " in await reader.readline()
        writer.close()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_rate_limits_are_told_and_kept(client, door):
    door.control.settings("acme", {"limits": {"requests_per_minute": 2}})
    first = await client.get("/v1/who", headers=KEY)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    await client.get("/v1/who", headers=KEY)
    refused = await client.get("/v1/who", headers=KEY)
    assert problem(refused)[:3] == (429, "rate_limit_error", "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    boss = await client.get("/v1/who", headers={"authorization": "Bearer boss"})
    assert boss.status_code == 200, "another key has its own minute"


async def test_browsers_may_read_our_headers_on_answers_and_errors(door, admission):
    door.control.key("k1", "acme")
    app = application(door, admission, cors=CorsConfig(origins=("https://app.example",)))
    async with served(app) as client:
        origin = {"origin": "https://app.example"}
        for headers in (KEY | origin, origin):
            answer = await client.get("/v1/who", headers=headers)
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert "x-fastchat-run-id" in answer.headers["access-control-expose-headers"]
        stranger = await client.get("/v1/who", headers=KEY | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers


async def test_a_preflight_needs_no_key(client):
    asked = {
        "origin": "https://any.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    answer = await client.options("/v1/things", headers=asked)
    assert answer.status_code == 200
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()


async def test_while_draining_new_requests_are_refused_and_running_ones_end(client, admission):
    running = asyncio.create_task(client.get("/v1/slow-stream", headers=KEY))
    await until(lambda: admission.in_flight)
    admission.draining = True
    refused = await client.get("/v1/who", headers=KEY)
    assert problem(refused)[::2] == (503, "draining")
    assert (refused.headers["connection"], refused.headers["retry-after"]) == ("close", "1")
    assert (await client.get("/health/live")).status_code == 200
    assert (await running).text == "abc"
    assert admission.in_flight == 0


async def test_what_cannot_be_served_is_refused_early_and_administration_still_works(client, admission):
    running = [asyncio.create_task(client.get("/v1/slow-stream", headers=KEY)) for _ in range(2)]
    await until(lambda: admission.in_flight == 2)
    refused = await client.get("/v1/who", headers=KEY)
    assert problem(refused)[::2] == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await client.get("/v1/admin/who", headers={"x-admin-key": "boss"})).status_code == 200
    await asyncio.gather(*running)


async def test_metric_labels_stay_bounded_whatever_clients_ask_for(client):
    for number in range(5):
        await client.get(f"/v1/nothing-{number}", headers=KEY)
    text = metrics.exposition().decode()
    assert 'route="unmatched"' in text
    assert "nothing-" not in text
    assert 'route="/v1/who"' in text
