"""What a start must say, and what the orchestrator adds to it."""

from __future__ import annotations

import orjson
import pytest

from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from fastchat.integration.v1.model_service_pb2 import ModelCall, ModelMode
from fastchat.orchestrator.v1.run_service_pb2 import OnDisconnect, StartRunRequest
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache
from orchestrator.graphs.builtin import chat
from orchestrator.graphs.registry import Graphs
from orchestrator.requests import Intake
from tests.unit.orchestrator.samples import call, start_request, started


def resource(kind: ResourceKind.ValueType, name: str, body: object, tenant_id: str = "") -> Resource:
    return Resource(kind=kind, name=name, tenant_id=tenant_id, revision=1, body_json=orjson.dumps(body).decode())


@pytest.fixture
def intake() -> Intake:
    cache = SettingsCache()
    layer = {"runs": {"timeout_s": 60}, "preferences": {"on_disconnect": "cancel_after"}}
    resources = [
        resource(ResourceKind.RESOURCE_KIND_MODEL, "m", {"context_window": 8192}),
        resource(ResourceKind.RESOURCE_KIND_MODEL, "m", {"context_window": 4096}, "t2"),
        resource(ResourceKind.RESOURCE_KIND_SETTINGS, "tenant", layer, "t2"),
    ]
    cache.apply(WatchSettingsResponse(resources=resources, revision=1, snapshot=True))
    return Intake(Graphs([chat.build()]), cache)


def test_a_start_is_completed(intake: Intake) -> None:
    accepted = intake.accept(start_request())
    told = accepted.request.started
    assert (told.graph, told.projection_version, told.context_window) == ("chat@1", 1, 8192)
    assert (accepted.streaming, accepted.on_disconnect) == (True, OnDisconnect.ON_DISCONNECT_CONTINUE)


def test_settings_of_the_tenant_decide_what_the_start_leaves_open(intake: Intake) -> None:
    accepted = intake.accept(start_request(tenant_id="t2"))
    assert accepted.request.started.context_window == 4096
    assert (accepted.timeout_s, accepted.on_disconnect) == (60, OnDisconnect.ON_DISCONNECT_CANCEL_AFTER)
    continued = start_request(tenant_id="t2", on_disconnect=OnDisconnect.ON_DISCONNECT_CONTINUE)
    assert intake.accept(continued).on_disconnect == OnDisconnect.ON_DISCONNECT_CONTINUE


def test_a_start_may_ask_for_less_time_than_settings_give_but_not_for_more(intake: Intake) -> None:
    assert intake.accept(start_request(tenant_id="t2", timeout_ms=5_000)).timeout_s == 5
    assert intake.accept(start_request(tenant_id="t2", timeout_ms=500_000)).timeout_s == 60


def test_an_answer_in_one_piece_is_not_streamed_unless_it_is_durable(intake: Intake) -> None:
    whole = started(projection_json='{"stream": false}')
    assert not intake.accept(start_request(started=whole)).streaming
    assert intake.accept(start_request(started=whole, durable=True)).streaming


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tenant_id": ""}, "tenant_id"),
        ({"run_id": "run-1"}, "run_id"),
        ({"thread_id": "th"}, "thread_id"),
        ({"graph": "research"}, "graph"),
        ({"graph": "chat@7"}, "graph"),
        ({"call": call("t2")}, "call.tenant_id"),
        ({"call": ModelCall(tenant_id="t1", mode=ModelMode.MODEL_MODE_EMBEDDING)}, "call.mode"),
        ({"call": ModelCall(tenant_id="t1", mode=ModelMode.MODEL_MODE_CHAT)}, "call.model_alias"),
        ({"call": ModelCall(tenant_id="t1", mode=ModelMode.MODEL_MODE_CHAT, model_alias="m")}, "call.messages"),
        ({"call": call(continue_from="x")}, "call.continue_from"),
        ({"started": started(public_id="")}, "started.public_id"),
        ({"started": started(created=0)}, "started.created"),
        ({"started": started(model="")}, "started.model"),
        ({"started": started(mode=0)}, "started.mode"),
        ({"started": started(projection_json="{")}, "started.projection_json"),
    ],
)
def test_a_start_that_makes_no_sense_names_its_field(intake: Intake, change: dict[str, object], field: str) -> None:
    with pytest.raises(PlatformError) as caught:
        intake.accept(start_request(**change))  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.metadata["field"]) == (Reason.INVALID_ARGUMENT, field)


def test_what_was_accepted_is_restored_as_it_was(intake: Intake) -> None:
    stored = intake.accept(start_request(durable=True)).request.SerializeToString()
    again = intake.restore(StartRunRequest.FromString(stored))
    assert (again.graph.reference, again.request.started.context_window) == ("chat@1", 8192)
