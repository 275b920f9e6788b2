"""Commands that call the admin API, against an HTTP server that records what it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from deploy.allinone.nats import free_port
from deploy.cli.main import app

RECORD = {
    "id": "key_1",
    "prefix": "fc-abc",
    "name": "ci",
    "subject": "ci",
    "roles": ["member"],
    "scopes": ["chat"],
    "expires_at": None,
    "revoked_at": None,
    "created_at": "2026-01-01T00:00:00Z",
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FASTCHAT_URL", "FASTCHAT_ADMIN_KEY", "FASTCHAT_BOOTSTRAP_KEY", "ADMIN_API_KEY", "FASTCHAT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTCHAT_HOME", str(tmp_path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_create_sends_the_kept_admin_key_and_prints_only_the_new_one(httpserver: HTTPServer, tmp_path: Path) -> None:
    (tmp_path / "bootstrap.key").write_text("fc-kept\n")
    httpserver.expect_request(
        "/v1/admin/api-keys",
        method="POST",
        headers={"authorization": "Bearer fc-kept"},
        json={"name": "ci", "roles": ["member"], "expires_at": "2027-01-01T00:00:00+00:00"},
    ).respond_with_json({**RECORD, "key": "fc-secret"}, status=201)
    done = run(
        *("keys", "create", "--name", "ci", "--role", "member"),
        *("--expires", "2027-01-01T00:00:00Z", "--url", httpserver.url_for("/")),
    )
    assert (done.exit_code, done.stdout) == (0, "fc-secret\n"), done.output


def test_list_follows_pages(httpserver: HTTPServer) -> None:
    for query, page in (
        ({"limit": "200"}, {"data": [RECORD], "next_page_token": "t"}),
        ({"limit": "200", "after": "t"}, {"data": [{**RECORD, "id": "key_2"}], "next_page_token": None}),
    ):
        httpserver.expect_request("/v1/admin/api-keys", query_string=query).respond_with_json(page)
    done = run("keys", "list", "--json", "--key", "k", "--url", httpserver.url_for("/"))
    assert [row["id"] for row in json.loads(done.stdout)] == ["key_1", "key_2"]


def test_a_refusal_is_told_in_the_servers_words(httpserver: HTTPServer) -> None:
    error = {"error": {"message": "no such key", "type": "invalid_request_error", "param": None, "code": "not_found"}}
    httpserver.expect_request("/v1/admin/api-keys/key_9", method="DELETE").respond_with_json(error, status=404)
    done = run("keys", "revoke", "key_9", "--key", "k", "--url", httpserver.url_for("/"))
    assert (done.exit_code, done.stderr) == (1, "fastchat: 404: no such key\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("keys", "list", "--key", "k", "--url", f"http://127.0.0.1:{free_port()}"), 3, "fastchat up"),
        (("keys", "list", "--url", "http://127.0.0.1:9"), 2, "no admin key"),
        (("keys", "create", "--key", "k", "--expires", "tomorrow"), 2, "no ISO 8601 time"),
        (("keys", "create", "--key", "k", "--expires", "2027-01-01T00:00:00"), 2, "no UTC offset"),
        (("serve", "--only", "postgres"), 2, "there are control, orchestrator"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_redrive_names_the_job(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/admin/jobs/j1/redrive", method="POST").respond_with_json({})
    assert run("jobs", "redrive", "j1", "--key", "k", "--url", httpserver.url_for("/")).exit_code == 0
