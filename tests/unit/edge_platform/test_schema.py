"""The OpenAPI document is true: every route is in it, and what the routes render fits it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from edge.api import site
from edge.api.answers import CONTENT, PARAMETERS
from edge.api.runs import run_json
from edge.api.threads import message_json, thread_json
from edge.config import EdgeConfig
from edge.limits import Limits
from edge.middleware.errors import rendered
from edge.openai.embeddings import embeddings_json
from edge.openai.models import models_json
from edge.projections.fold import Answer
from fastchat.common.v1 import event_pb2, message_pb2
from fastchat.gateway.v1 import thread_service_pb2
from fastchat.integration.v1 import model_service_pb2
from fastchat.orchestrator.v1 import run_service_pb2
from kit.admission import Admission
from kit.errors import PlatformError
from kit.health import Health
from tests.unit.edge_platform.plane import Plane

pytestmark = pytest.mark.req("FR-002")


@pytest.fixture
def app(door):
    deps: Any = SimpleNamespace(
        config=EdgeConfig(),
        authenticator=door.authenticator,
        limits=Limits(door.pushed),
        clients=Plane().clients(),
        settings=door.cache,
        health=Health(),
        mesh=SimpleNamespace(bus=None),
        policy=None,
        audit=None,
        threads=None,
        history=None,
    )
    return site.build(deps, door.pushed, Admission())


@pytest.fixture
def document(app):
    return app.openapi()


def test_every_route_is_documented_with_its_success_and_its_errors(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            success = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            assert success, where
            assert all("content" in answer and answer["content"] for answer in success), where
            assert all(content.get("schema") for content in success[0]["content"].values()), where
            assert ("default" in operation["responses"]) == path.startswith("/v1/"), where
            assert operation.get("summary"), where


def test_answers_and_parameters_belong_to_routes(document):
    known = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert set(CONTENT) <= known
    assert set(PARAMETERS) <= known


def test_references_lead_somewhere(document):
    names = set(document["components"]["schemas"])
    assert set(re.findall(r"#/components/schemas/([\w.-]+)", str(document))) <= names


def test_the_document_is_a_valid_schema_in_all_its_parts(document):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_the_routes_render_fits_what_is_documented(document):
    answer = Answer()
    started = event_pb2.RunStarted(public_id="chatcmpl-1", created=1, model="m", mode=event_pb2.RUN_MODE_CHAT)
    answer.feed(event_pb2.RunEvent(run_id="r", started=started))
    delta = event_pb2.TokenDelta(kind=event_pb2.TOKEN_KIND_TEXT, text="hi", merged=1)
    answer.feed(event_pb2.RunEvent(token=event_pb2.TokenPayload(deltas=[delta])))
    complete = event_pb2.CompletePayload(outcome=event_pb2.RUN_OUTCOME_COMPLETED, finish_reasons=["stop"])
    answer.feed(event_pb2.RunEvent(complete=complete))
    message = message_pb2.ChatMessage(role=message_pb2.ROLE_USER, plain_text=True, content=[{"text": "hi"}])
    model = model_service_pb2.Model(alias="m", provider="openai", modes=[model_service_pb2.MODEL_MODE_CHAT])
    vectors = model_service_pb2.ModelResult(embeddings=[model_service_pb2.Embedding(values=[0.5])])
    for name, body in {
        "ChatCompletion": answer.to_json(),
        "ModelList": models_json([model]),
        "EmbeddingList": embeddings_json(vectors, "m", "float"),
        "Thread": thread_json(thread_service_pb2.Thread(id="t", user_id="u")),
        "Message": message_json(thread_service_pb2.ThreadMessage(id="m", message=message)),
        "Run": run_json(run_service_pb2.Run(run_id="r", status=1)),
    }.items():
        jsonschema.validate(body, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_errors_fit_what_is_documented(document):
    import orjson

    body = orjson.loads(rendered(PlatformError.invalid("x", "wrong"))[2])
    jsonschema.validate(body, document["components"]["schemas"]["Error"])
