"""The gateway over real doors, with settings as control would push them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from fastchat.common.v1.event_pb2 import StatusPayload, TokenDelta, TokenKind
from fastchat.common.v1.message_pb2 import ChatMessage, ContentPart, Role
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.audit_service_pb2 import AuditEvent
from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelMode, ModelResult, StreamModelResponse
from integration.config import IntegrationConfig
from integration.models.assembly import Models
from kit.audit import Audit
from kit.crypto import Keyring, MasterKey
from kit.principal import acting_as
from kit.settings import SettingsCache
from tests.support.upstream import KEY, Upstream

TENANT = "acme"
POLICY = Path(__file__).parents[3] / "control" / "policy" / "builtin.cedar"
OFFLINE = {"alias": "offline", "litellm": {"model": "offline/offline"}, "mode": "chat+embedding"}
QUICK = IntegrationConfig(backoff_s=0.001, backoff_max_s=0.01)


class Audited(Audit):
    """The audit client, with what was recorded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.events: list[AuditEvent] = []

    async def record(self, **told: Any) -> AuditEvent:
        event = await super().record(**told)
        self.events.append(event)
        return event


class World:
    """What tests reach for."""

    def __init__(
        self, models: Models, cache: SettingsCache, keyring: Keyring, upstream: Upstream, audit: Audited
    ) -> None:
        self.models = models
        self.gateway = models.gateway
        self.cache = cache
        self.keyring = keyring
        self.upstream = upstream
        self.audited = audit.events
        """Audit events so far."""

    def push(self, *resources: Resource) -> None:
        """Control pushes changes."""
        revision = self.cache.revision + 1
        for resource in resources:
            resource.revision = revision
        self.cache.apply(WatchSettingsResponse(resources=resources, revision=revision))

    def model(self, alias: str, *, tenant: str = "", **more: Any) -> None:
        """Control pushes an entry whose provider is the mock; its model name is the alias."""
        litellm = {"model": f"openai/{alias}", "api_base": self.upstream.url, "api_key": KEY, **more.pop("litellm", {})}
        body = {"alias": alias, "litellm": litellm, **more}
        self.push(resource(ResourceKind.RESOURCE_KIND_MODEL, alias, body, tenant))

    def settings(self, **groups: Mapping[str, Any]) -> None:
        """Control pushes the tenant's settings layer."""
        self.push(resource(ResourceKind.RESOURCE_KIND_SETTINGS, "tenant", dict(groups), TENANT))


def resource(kind: ResourceKind.ValueType, name: str, body: Mapping[str, Any], tenant: str = "") -> Resource:
    """A resource as control pushes it."""
    return Resource(kind=kind, name=name, tenant_id=tenant, body_json=json.dumps(body))


@asynccontextmanager
async def world(tmp_path: Path, upstream: Upstream, config: IntegrationConfig = QUICK) -> AsyncIterator[World]:
    """A gateway with the built-in policy and the offline model."""
    cache, keyring = SettingsCache(), Keyring([MasterKey.of(b"k" * 32)])
    async with Audited(None, tmp_path / "audit", "integration") as audit:
        models = Models(config, cache, keyring, audit)
        made = World(models, cache, keyring, upstream, audit)
        bundle = {"cedar": POLICY.read_text(), "enabled": True}
        made.push(
            resource(ResourceKind.RESOURCE_KIND_POLICY, "builtin", bundle),
            resource(ResourceKind.RESOURCE_KIND_MODEL, "offline", OFFLINE),
        )
        try:
            yield made
        finally:
            await models.close()


@contextmanager
def member(tenant: str = TENANT, *roles: str) -> Iterator[Principal]:
    """Act as a member of a tenant."""
    who = Principal(tenant_id=tenant, subject="key:k1", roles=roles or ("member",), scopes=["chat"])
    with acting_as(who) as bound:
        yield bound


def chat(alias: str, text: str = "Hello", **more: Any) -> ModelCall:
    """A call with one user message."""
    message = ChatMessage(role=Role.ROLE_USER, content=[ContentPart(text=text)], plain_text=True)
    told = {"messages": [message], **more}
    return ModelCall(tenant_id=TENANT, model_alias=alias, mode=ModelMode.MODEL_MODE_CHAT, **told)


class Heard:
    """A stream as a reader saw it."""

    def __init__(self) -> None:
        self.deltas: list[TokenDelta] = []
        self.statuses: list[StatusPayload] = []
        self.result: ModelResult | None = None
        self.messages = 0

    def take(self, piece: StreamModelResponse) -> None:
        """Take in one piece."""
        kind = piece.WhichOneof("piece")
        assert self.result is None, "nothing comes after the result"
        if kind == "token":
            self.messages += 1
            self.deltas.extend(piece.token.deltas)
        elif kind == "status":
            self.statuses.append(piece.status)
        else:
            self.result = piece.result

    def text(self, kind: TokenKind.ValueType = TokenKind.TOKEN_KIND_TEXT, choice: int = 0) -> str:
        """All text of a kind."""
        return "".join(d.text for d in self.deltas if d.kind == kind and d.choice_index == choice)

    @property
    def end(self) -> ModelResult:
        """The result."""
        assert self.result is not None
        return self.result


async def read(world: World, call: ModelCall, heard: Heard | None = None) -> Heard:
    """Stream a call to its end; `heard` holds what came before an error."""
    heard = heard or Heard()
    async for piece in world.gateway.stream(call):
        heard.take(piece)
    return heard


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition that no event tells of."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)
