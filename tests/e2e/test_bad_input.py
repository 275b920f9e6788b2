"""What is wrong with a request is said in OpenAI's shape, with the right status, over the whole platform.

Settings files, ports in use and second replicas are in test_up.py.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from kit.ids import new_uuid
from tests.support.stack import Stack, all_in_one, until

pytestmark = pytest.mark.req("PR-030", "FR-026")

CHAT, THREADS = "/v1/chat/completions", "/v1/threads"
HELLO = [{"role": "user", "content": "Hello."}]
QUICKLY_S = 5.0


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with client_of(stack, stack.key) as client:
        yield client


def client_of(stack: Stack, key: str) -> httpx.Client:
    return httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {key}"}, timeout=30)


def problem(answer: httpx.Response) -> tuple[int, str, str, str | None]:
    """Status, type, code and param of an error, which must have OpenAI's shape and nothing of ours inside."""
    assert answer.headers["content-type"] == "application/json"
    assert "x-request-id" in answer.headers
    body = answer.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["message"]
    assert "Traceback" not in answer.text
    return answer.status_code, error["type"], error["code"], error["param"]


@pytest.mark.parametrize("path", [CHAT, THREADS, "/v1/embeddings", "/v1/admin/workspaces"])
def test_malformed_json_is_told_with_line_and_column(client: httpx.Client, path: str) -> None:
    text = '{\n  "model": "offline",\n  "messages": [}\n'
    answer = client.post(path, content=text, headers={"content-type": "application/json"})
    assert problem(answer)[:3] == (400, "invalid_request_error", "malformed_request")
    assert "line 3, column " in answer.json()["error"]["message"]


WRONG = [
    (CHAT, {"messages": HELLO, "model": 5}, "model"),
    (CHAT, {"model": "offline"}, "messages"),
    (CHAT, {"model": "offline", "messages": "Hello."}, "messages"),
    (CHAT, {"model": "offline", "messages": []}, "messages"),
    (CHAT, {"model": "offline", "messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    (CHAT, {"model": "offline", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (CHAT, {"model": "offline", "messages": HELLO, "temperature": "hot"}, "temperature"),
    (CHAT, {"model": "offline", "messages": HELLO, "temperature": 3}, "temperature"),
    (CHAT, {"model": "offline", "messages": HELLO, "n": 0}, "n"),
    (CHAT, {"model": "offline", "messages": HELLO, "stream": "yes"}, "stream"),
    (CHAT, {"model": "offline", "messages": HELLO, "max_tokens": 1.5}, "max_tokens"),
    (CHAT, {"model": "offline", "messages": HELLO, "tools": {}}, "tools"),
    (CHAT, {"model": "offline", "messages": HELLO, "temprature": 1}, "temprature"),
    ("/v1/embeddings", {"model": "offline", "input": 5}, "input"),
    (THREADS, {"title": 5}, "title"),
    ("/v1/admin/api-keys", {"roles": "admin"}, "roles"),
    ("/v1/admin/workspaces", {"name": ["x"]}, "name"),
    ("/v1/admin/model-registry", {"alias": "x", "litellm": {"model": 5}}, "litellm"),
    ("/v1/admin/settings", {"settings": {"limits": {"requests_per_minute": "many"}}}, "limits.requests_per_minute"),
]


@pytest.mark.parametrize(("path", "body", "field"), WRONG, ids=[f"{path} {field}" for path, _, field in WRONG])
def test_a_wrong_field_is_named(client: httpx.Client, path: str, body: Any, field: str) -> None:
    method = "PUT" if path.endswith("settings") else "POST"
    status, kind, _, param = problem(client.request(method, path, json=body))
    assert (status, kind) == (400, "invalid_request_error")
    assert (param or "").endswith(field)


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_404(client: httpx.Client, stream: bool) -> None:
    answer = client.post(CHAT, json={"model": "nobody", "messages": HELLO, "stream": stream})
    assert problem(answer)[:3] == (404, "invalid_request_error", "model_not_found")
    assert "nobody" in answer.json()["error"]["message"]


def test_an_unknown_model_is_404_elsewhere_too(client: httpx.Client) -> None:
    asked = [client.get("/v1/models/nobody"), client.post("/v1/embeddings", json={"model": "nobody", "input": "x"})]
    assert {problem(answer)[0:3:2] for answer in asked} == {(404, "model_not_found")}


def test_a_body_that_says_it_is_too_large_is_not_read(stack: Stack) -> None:
    place = urlsplit(stack.url)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {stack.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {33 * 1024 * 1024}\r\n\r\n"
    )
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=QUICKLY_S) as connection:
        connection.sendall(head.encode())
        answer = connection.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["code"] == "payload_too_large"


def test_a_body_that_turns_out_too_large_is_413(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(33):
            yield b" " * 1024 * 1024

    answer = client.post(CHAT, content=pieces(), headers={"content-type": "application/json"})
    assert problem(answer)[:3] == (413, "invalid_request_error", "payload_too_large")


@pytest.mark.parametrize("path", ["/v1/models", THREADS, "/v1/admin/tenants"])
def test_a_bad_key_is_401(stack: Stack, path: str) -> None:
    for key in ("fc-" + "0" * 43, "nonsense"):
        answer = httpx.get(stack.url + path, headers={"authorization": f"Bearer {key}"})
        assert problem(answer)[:3] == (401, "invalid_request_error", "invalid_api_key")
    assert problem(httpx.get(stack.url + path))[:3] == (401, "invalid_request_error", "missing_credentials")


def make_key(client: httpx.Client, **wanted: Any) -> dict[str, Any]:
    answer = client.post("/v1/admin/api-keys", json=wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_an_expired_key_is_401(stack: Stack, client: httpx.Client) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=1.5)
    with client_of(stack, make_key(client, expires_at=expires.isoformat())["key"]) as caller:
        assert caller.get("/v1/models").status_code == 200
        until(lambda: datetime.now(UTC) > expires, 5, lambda: "time stands still")
        answer = caller.get("/v1/models")
    assert problem(answer)[:3] == (401, "invalid_request_error", "expired_credentials")


def test_a_revoked_key_is_refused_within_a_second(stack: Stack, client: httpx.Client) -> None:
    made = make_key(client)
    with client_of(stack, made["key"]) as caller:
        assert caller.get("/v1/models").status_code == 200
        assert client.delete(f"/v1/admin/api-keys/{made['id']}").status_code == 200
        until(lambda: caller.get("/v1/models").status_code == 401, 1.0, lambda: "the key still opens")
        assert problem(caller.get("/v1/models"))[2] == "invalid_api_key"


def test_a_missing_scope_is_403(stack: Stack, client: httpx.Client) -> None:
    with client_of(stack, make_key(client, roles=["member"])["key"]) as caller:
        answer = caller.get("/v1/admin/workspaces")
    assert problem(answer)[:3] == (403, "permission_error", "missing_scope")
    with client_of(stack, make_key(client, roles=["viewer"])["key"]) as caller:
        answer = caller.post(CHAT, json={"model": "offline", "messages": HELLO})
    assert problem(answer)[:3] == (403, "permission_error", "policy_denied")


@pytest.mark.parametrize("thread", [new_uuid(), "not-an-id"])
def test_an_unknown_thread_is_404(client: httpx.Client, thread: str) -> None:
    chat = {"model": "offline", "messages": HELLO, "thread_id": thread}
    answers = [
        client.post(CHAT, json=chat),
        client.post(CHAT, json={**chat, "stream": True}),
        client.get(f"{THREADS}/{thread}"),
        client.get(f"{THREADS}/{thread}/messages"),
        client.patch(f"{THREADS}/{thread}", json={"title": "x"}),
        client.delete(f"{THREADS}/{thread}"),
    ]
    assert {problem(answer)[:3] for answer in answers} == {(404, "invalid_request_error", "thread_not_found")}


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstream_that_cannot_be_reached_is_said_quickly(client: httpx.Client, stream: bool) -> None:
    began = time.monotonic()
    answer = client.post(CHAT, json={"model": "unreachable", "messages": HELLO, "stream": stream})
    status, kind, code, _ = problem(answer)
    assert time.monotonic() - began < QUICKLY_S
    assert (status, kind) in ((502, "server_error"), (503, "server_error"))
    assert code
    assert "127.0.0.1:9" not in answer.text, "addresses are the platform's own"


@pytest.fixture(scope="module")
def full_disk(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with all_in_one(tmp_path_factory.mktemp("full"), upstream_url) as stack:
        yield stack


@pytest.mark.full
@pytest.mark.req("PR-034")
@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only Linux can limit the files of a running process")
def test_a_disk_that_takes_no_more_is_503_and_the_service_lives(full_disk: Stack) -> None:
    edge = psutil.Process(full_disk.pid_of("edge"))
    before = edge.rlimit(psutil.RLIMIT_FSIZE)
    chat = {"model": "offline", "messages": HELLO}
    with client_of(full_disk, full_disk.key) as client:
        thread = client.post(THREADS, json={}).json()["id"]
        edge.rlimit(psutil.RLIMIT_FSIZE, (1, before[1]))
        try:
            refused = [
                client.post(THREADS, json={"title": "x" * 500}),
                client.post(CHAT, json={**chat, "thread_id": thread}),
                client.post(CHAT, json={**chat, "thread_id": thread, "stream": True}),
                client.post("/v1/admin/workspaces", json={"name": "n"}),
            ]
            read = client.get(f"{THREADS}/{thread}")
            live = client.get("/health/live")
        finally:
            edge.rlimit(psutil.RLIMIT_FSIZE, before)
        assert [problem(answer)[:3] for answer in refused] == [(503, "server_error", "storage_unavailable")] * 4
        assert all("retry-after" in answer.headers for answer in refused)
        assert (read.status_code, live.status_code) == (200, 200)
        until(lambda: client.post(THREADS, json={}).status_code == 201, 10, full_disk.tails)
        assert client.post(CHAT, json={**chat, "thread_id": thread}).status_code == 200
    assert edge.is_running()
    assert full_disk.pid_of("edge") == edge.pid
