"""The admin API of a running edge, as commands use it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.allinone.home import KEY_FILE
from deploy.cli.output import FAILED, UNREACHABLE, WRONG, fail
from deploy.services import home

if TYPE_CHECKING:
    from httpx import Response

Url = Annotated[
    str, typer.Option("--url", envvar="FASTCHAT_URL", help="Address of the edge. Default: the one configured here.")
]
Key = Annotated[
    str,
    typer.Option(
        "--key",
        envvar=["FASTCHAT_ADMIN_KEY", "FASTCHAT_BOOTSTRAP_KEY", "ADMIN_API_KEY"],
        help="Admin key. Default: the one kept in FASTCHAT_HOME.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


class AdminApi:
    """Calls below /v1/admin; every failure ends the command with a message."""

    def __init__(self, url: str, key: str) -> None:
        import httpx  # only commands that call pay for it

        self._failure = httpx.HTTPError
        self._url = (url or configured_url()).rstrip("/")
        headers = {"authorization": f"Bearer {key or _kept_key()}"}
        self._http = httpx.Client(base_url=f"{self._url}/v1/admin", headers=headers, timeout=30)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """One call; parameters that are None or empty are left out."""
        parameters = {name: value for name, value in query.items() if value not in (None, "", False)}
        try:
            answer = self._http.request(method, path, json=body, params=parameters)
        except self._failure as problem:
            fail(f"no Fast-Chat answers at {self._url} ({problem}); start one with `fastchat up`", UNREACHABLE)
        if answer.is_error:
            fail(f"{answer.status_code}: {_message(answer)}", FAILED)
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document

    def pages(self, path: str, limit: int | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        """Entries of a list, page after page, at most ``limit``."""
        after, left = "", limit
        while left is None or left > 0:
            page = self.call("GET", path, limit=min(200, left or 200), after=after, **query)
            entries = page["data"] if left is None else page["data"][:left]
            yield from entries
            left = None if left is None else left - len(entries)
            after = page.get("next_page_token") or ""
            if not after:
                return


def configured_url() -> str:
    """Where this configuration's edge listens."""
    host = os.environ.get("FASTCHAT_EDGE__HOST", "127.0.0.1")
    port = os.environ.get("FASTCHAT_EDGE__PORT", "8080")
    if os.environ.get("FASTCHAT_CONFIG"):
        from deploy.services import configuration  # only then worth its time
        from edge.config import EdgeConfig

        edge = configuration().section("edge", EdgeConfig)
        host, port = edge.host, str(edge.port)
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound


def _kept_key() -> str:
    path = home() / KEY_FILE
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        fail(f"no admin key: give --key or FASTCHAT_ADMIN_KEY ({path} is not there)", WRONG)


def _message(answer: Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason_phrase
