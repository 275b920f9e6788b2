"""What a start asks for: checked, and completed with what only the orchestrator knows."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import orjson

from fastchat.control.v1.settings_service_pb2 import ResourceKind
from fastchat.integration.v1.model_service_pb2 import ModelMode
from fastchat.orchestrator.v1.run_service_pb2 import OnDisconnect, StartRunRequest
from kit.errors import PlatformError
from kit.settings import SettingsCache, TenantSettings
from orchestrator.events import PROJECTION_VERSION
from orchestrator.graphs.registry import Graph, Graphs

_MODES = (ModelMode.MODEL_MODE_CHAT, ModelMode.MODEL_MODE_RESPONSES)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A start that may run. ``request.started`` is complete."""

    request: StartRunRequest
    graph: Graph
    settings: TenantSettings
    timeout_s: float
    streaming: bool

    @property
    def on_disconnect(self) -> OnDisconnect.ValueType:
        """What becomes of the run when nobody reads; never unspecified."""
        if self.request.on_disconnect != OnDisconnect.ON_DISCONNECT_UNSPECIFIED:
            return self.request.on_disconnect
        if self.settings.preferences.on_disconnect == "cancel_after":
            return OnDisconnect.ON_DISCONNECT_CANCEL_AFTER
        return OnDisconnect.ON_DISCONNECT_CONTINUE


class Intake:
    """Checks starts against the graphs and the tenant's settings."""

    def __init__(self, graphs: Graphs, settings: SettingsCache) -> None:
        self._graphs = graphs
        self._settings = settings

    def accept(self, request: StartRunRequest) -> Accepted:
        """The start, completed in place. INVALID_ARGUMENT names the field that is wrong."""
        _check(request)
        graph = self._graphs.get(request.graph)
        request.started.graph = graph.reference
        request.started.projection_version = PROJECTION_VERSION
        request.started.context_window = self.context_window(request.tenant_id, request.call.model_alias)
        return self.restore(request)

    def restore(self, request: StartRunRequest) -> Accepted:
        """A start that was accepted before, such as by the replica that lost it."""
        settings = self._settings.effective(request.tenant_id, request.workspace_id)
        timeout_s = float(settings.runs.timeout_s)
        if request.timeout_ms:
            timeout_s = min(timeout_s, request.timeout_ms / 1000)
        streaming = request.durable or not _whole(request.started.projection_json)
        return Accepted(request, self._graphs.get(request.started.graph), settings, timeout_s, streaming)

    def context_window(self, tenant_id: str, alias: str) -> int:
        """Prompt window of an alias in tokens; 0 if the registry does not tell."""
        entry = self._settings.get(ResourceKind.RESOURCE_KIND_MODEL, tenant_id, alias)
        entry = entry or self._settings.get(ResourceKind.RESOURCE_KIND_MODEL, "", alias)
        if entry is None:
            return 0
        return int(orjson.loads(entry.body_json).get("context_window") or 0)


def _check(request: StartRunRequest) -> None:
    call, started = request.call, request.started
    _require(request.tenant_id, "tenant_id")
    try:
        uuid.UUID(request.run_id)
    except ValueError:
        raise PlatformError.invalid("run_id", "run_id must be a UUID.") from None
    if request.thread_id and not request.durable:
        raise PlatformError.invalid("thread_id", "A run of a thread is durable.")
    if call.tenant_id != request.tenant_id:
        raise PlatformError.invalid("call.tenant_id", "call.tenant_id must be the run's tenant.")
    if call.mode not in _MODES:
        raise PlatformError.invalid("call.mode", "A run's call is of mode chat or responses.")
    _require(call.model_alias, "call.model_alias")
    _require(len(call.messages), "call.messages")
    _require(started.public_id, "started.public_id")
    _require(started.created, "started.created")
    _require(started.model, "started.model")
    _require(started.mode, "started.mode")
    if call.continue_from or call.earlier_legs:
        raise PlatformError.invalid("call.continue_from", "A run begins without earlier legs.")


def _require(value: object, field: str) -> None:
    if not value:
        raise PlatformError.invalid(field, f"{field} is required.")


def _whole(projection_json: str) -> bool:
    """Whether the client asked for the answer in one piece. Projections own the rest of the document."""
    if not projection_json:
        return False
    try:
        document = orjson.loads(projection_json)
    except orjson.JSONDecodeError:
        raise PlatformError.invalid("started.projection_json", "projection_json is not JSON.") from None
    return isinstance(document, dict) and document.get("stream") is False
