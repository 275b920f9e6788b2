"""The edge's chat routes over a scripted RunService, driven as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.middleware import Middleware

from edge.answering import Answers
from edge.api import chat, embeddings, models, runs, threads
from edge.auth import Authenticated
from edge.auth.identity import SCOPE_KEY
from edge.middleware.errors import Errors
from edge.middleware.response_start import ResponseStart
from edge.threads import Threads
from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason
from kit.policy import Decision
from kit.settings import SettingsCache

PRINCIPAL = Principal(tenant_id="t1", subject="key:1", scopes=["chat"])


class Policy:
    """Allows everything but the actions told."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied

    def decide(self, principal: Principal, action: str, kind: str, resource: str) -> Decision:
        """Why."""
        return Decision(action not in self.denied, ("test",))

    def require(self, principal: Principal, action: str, kind: str, resource: str) -> None:
        """POLICY_DENIED for a denied action."""
        if action in self.denied:
            raise PlatformError(Reason.POLICY_DENIED, "denied", rule="test", action=action)


class Audit:
    """Keeps what was recorded."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    async def record(self, **event: Any) -> None:
        """Keep it."""
        self.records.append(event)


class Streams:
    """Counts open streams."""

    def __init__(self) -> None:
        self.open = 0

    @contextmanager
    def stream(self, who: Authenticated) -> Iterator[None]:
        """One stream."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


@dataclass
class Answered:
    """What a client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    writes: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.writes)

    @property
    def json(self) -> Any:
        """As JSON."""
        return orjson.loads(self.body)


class Site:
    """One edge."""

    def __init__(
        self, service: Any, store: Threads, *, settings: Mapping[str, Any] | None = None, policy: Policy | None = None
    ) -> None:
        self.runs = service
        self.limits = Streams()
        self.models = SimpleNamespace()
        self._who = Authenticated(PRINCIPAL, settings or {})
        self.deps: Any = SimpleNamespace(
            clients=SimpleNamespace(runs=service, models=self.models),
            settings=SettingsCache(),
            policy=policy or Policy(),
            audit=Audit(),
            limits=self.limits,
            threads=store,
            answers=Answers(),
            config=SimpleNamespace(keepalive_s=15.0),
        )
        app = FastAPI(middleware=[Middleware(ResponseStart), Middleware(Errors)])
        for module in (chat, models, embeddings, threads, runs):
            app.include_router(module.router(self.deps))
        self._app = app

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **asgi: Any
    ) -> Answered:
        """One request. `leave`: an Event after which the client is gone; `on_write`: called with each write."""
        leave: asyncio.Event = asgi.get("leave") or asyncio.Event()
        answered = Answered()
        raw = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        requests = [{"type": "http.request", "body": raw, "more_body": False}]
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "state": {},
            SCOPE_KEY: self._who,
        }

        async def receive() -> dict[str, Any]:
            if requests:
                return requests.pop()
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                answered.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            elif message.get("body"):
                answered.writes.append(message["body"])
                if "on_write" in asgi:
                    asgi["on_write"](message["body"])

        await self._app(scope, receive, send)  # type: ignore[arg-type]
        return answered

    async def chat(self, *, headers: Mapping[str, str] | None = None, asgi: Any = None, **fields: Any) -> Answered:
        """POST /v1/chat/completions with a question."""
        body = {"model": "m", "messages": [{"role": "user", "content": "q"}], **fields}
        return await self.ask("POST", "/v1/chat/completions", body, headers, **(asgi or {}))
