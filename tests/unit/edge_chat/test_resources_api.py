"""Threads, runs, models and embeddings over HTTP."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from edge.threads import Threads
from fastchat.integration.v1 import model_service_pb2 as models_pb
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from tests.unit.edge_chat.runs import STARTED, Runs, complete, text, usage
from tests.unit.edge_chat.site import PRINCIPAL, Policy, Site
from tests.unit.edge_chat.test_threads import user

GOOD = (STARTED, text("Hel"), [text("lo"), usage(), complete("stop")])


@pytest.fixture
def site(threads: Threads) -> Site:
    return Site(Runs(*GOOD), threads)


@pytest.mark.req("FR-021")
async def test_a_thread_lives_through_its_routes(site: Site) -> None:
    made = await site.ask("POST", "/v1/threads", {"title": "Plans", "user_id": "ann"})
    assert (made.status, made.headers["location"]) == (201, f"/v1/threads/{made.json['id']}")
    path = made.headers["location"]
    assert set(made.json) == {
        *("id", "user_id", "title", "is_pinned", "message_count", "last_message_preview"),
        *("active_run_id", "created_at", "updated_at"),
    }
    await site.chat(thread_id=made.json["id"])
    listed = (await site.ask("GET", "/v1/threads")).json
    assert [(t["title"], t["user_id"], t["message_count"], t["last_message_preview"]) for t in listed] == [
        ("Plans", "ann", 2, "Hello")
    ]
    said = (await site.ask("GET", f"{path}/messages")).json
    assert [(message["role"], message["content"]) for message in said] == [("user", "q"), ("assistant", "Hello")]
    assert [message["parent_id"] for message in said] == [None, said[0]["id"]]
    assert said[1]["run_id"] == site.runs.started[0].run_id
    changed = await site.ask("PATCH", path, {"title": "Other", "is_pinned": True})
    assert (changed.json["title"], changed.json["is_pinned"]) == ("Other", True)
    assert (await site.ask("DELETE", path)).json == {"id": made.json["id"], "object": "thread.deleted", "deleted": True}
    assert (await site.ask("GET", path)).json["error"]["code"] == "thread_not_found"
    assert (await site.ask("DELETE", path)).status == 404


async def test_deleting_a_thread_cancels_its_run(site: Site, threads: Threads) -> None:
    thread = await threads.create(PRINCIPAL, "", "")
    await threads.begin(PRINCIPAL, thread.id, [user("q")], "01890000-0000-7000-8000-000000000002")
    await site.ask("DELETE", f"/v1/threads/{thread.id}")
    assert [cancel.run_id for cancel in site.runs.cancels] == ["01890000-0000-7000-8000-000000000002"]


async def test_pages_are_linked(site: Site) -> None:
    for _ in range(3):
        await site.ask("POST", "/v1/threads")
    first = await site.ask("GET", "/v1/threads?limit=2")
    assert len(first.json) == 2
    target, _, rel = first.headers["link"].partition("; ")
    assert rel == 'rel="next"'
    second = await site.ask("GET", target.strip("<>"))
    assert len(second.json) == 1
    assert "link" not in second.headers


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "", {"title": 5}, "title"),
        ("POST", "", {"title": "x" * 513}, "title"),
        ("POST", "", {"name": "x"}, "name"),
        ("PATCH", "/01890000-0000-7000-8000-000000000001", {"is_pinned": "yes"}, "is_pinned"),
        ("PATCH", "/01890000-0000-7000-8000-000000000001", {"is_pinned": None}, "is_pinned"),
        ("PATCH", "/01890000-0000-7000-8000-000000000001", {"title": None}, "title"),
        ("GET", "?limit=0", None, "limit"),
        ("GET", "?limit=x", None, "limit"),
        ("GET", "?after=x", None, "page_token"),
    ],
)
async def test_bad_input_is_named(site: Site, method: str, path: str, body: Any, param: str) -> None:
    answer = await site.ask(method, f"/v1/threads{path}", body)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


async def test_threads_ask_the_policy_and_refusals_are_on_record(threads: Threads) -> None:
    site = Site(Runs(), threads, policy=Policy("thread.read", "thread.write"))
    for method in ("GET", "POST"):
        assert (await site.ask(method, "/v1/threads")).status == 403
    assert [(event["action"], event["outcome"]) for event in site.deps.audit.records] == [
        ("thread.read", "refused"),
        ("thread.write", "refused"),
    ]


MODELS = [
    models_pb.Model(alias="a/b", provider="mock", created=5, modes=[models_pb.MODEL_MODE_CHAT], context_window=8192),
    models_pb.Model(alias="offline", modes=[models_pb.MODEL_MODE_CHAT, models_pb.MODEL_MODE_EMBEDDING]),
]


@pytest.mark.req("FR-028")
async def test_models_are_listed_and_told(site: Site) -> None:
    async def listing(request: models_pb.ListModelsRequest) -> models_pb.ListModelsResponse:
        assert request.tenant_id == "t1"
        return models_pb.ListModelsResponse(models=MODELS)

    site.models.ListModels = listing
    told = (await site.ask("GET", "/v1/models")).json
    assert (told["object"], [model["id"] for model in told["data"]]) == ("list", ["a/b", "offline"])
    one = (await site.ask("GET", "/v1/models/a/b")).json
    assert one == {
        "id": "a/b",
        "object": "model",
        "created": 5,
        "owned_by": "mock",
        "modes": ["chat"],
        "context_window": 8192,
        "max_output_tokens": None,
    }
    absent = await site.ask("GET", "/v1/models/nope")
    assert (absent.status, absent.json["error"]["code"]) == (404, "model_not_found")


async def embedded(site: Site, **fields: Any) -> Any:
    async def call(request: models_pb.CallModelRequest) -> models_pb.CallModelResponse:
        result = models_pb.ModelResult(embeddings=[models_pb.Embedding(values=[0.5, -1.0]) for _ in request.call.input])
        result.usage.prompt_tokens = result.usage.total_tokens = 4
        return models_pb.CallModelResponse(result=result)

    site.models.CallModel = call
    return await site.ask("POST", "/v1/embeddings", {"model": "e", **fields})


async def test_embeddings_come_as_floats_or_base64(site: Site) -> None:
    floats = (await embedded(site, input=["a", "b"])).json
    assert [entry["embedding"] for entry in floats["data"]] == [[0.5, -1.0], [0.5, -1.0]]
    assert floats["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    packed = (await embedded(site, input="a", encoding_format="base64")).json
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.5, -1.0)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "input", None),
        ({"input": ""}, "input", None),
        ({"input": []}, "input", None),
        ({"input": ["a", 1]}, "input[1]", None),
        ({"input": [1, 2]}, "input", "unsupported_feature"),
        ({"input": [[1]]}, "input", "unsupported_feature"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", None),
        ({"input": "a", "dimensions": 0}, "dimensions", None),
        ({"input": "a", "model": None}, "model", None),
    ],
)
async def test_bad_embeddings_are_named(site: Site, fields: dict[str, Any], param: str, code: str | None) -> None:
    answer = await embedded(site, **fields)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)
    if code:
        assert answer.json["error"]["code"] == code


async def test_a_run_is_read_again_in_both_shapes_from_any_frame(site: Site, threads: Threads) -> None:
    thread = await threads.create(PRINCIPAL, "", "")
    first = await site.chat(stream=True, thread_id=thread.id)
    path = f"/v1/runs/{first.headers['x-fastchat-run-id']}/events"
    chunks = await site.ask("GET", path, headers={"X-Fastchat-Events": "named"})
    assert chunks.writes == first.writes
    later = await site.ask("GET", f"{path}?starting_after=2", headers={"X-Fastchat-Events": "named"})
    assert later.writes == first.writes[2:]
    envelopes = await site.ask("GET", path)
    ids = [int(write.split(b"id: ")[1].split(b"\n")[0]) for write in envelopes.writes[:-1]]
    assert ids == list(range(1, len(ids) + 1))
    resumed = await site.ask("GET", path, headers={"Last-Event-ID": "3"})
    assert resumed.writes == envelopes.writes[3:]
    assert (await site.ask("GET", f"{path}?starting_after=-1")).status == 400


async def test_a_run_is_told_and_cancelled(site: Site) -> None:
    async def told(request: runs_pb.GetRunRequest) -> runs_pb.GetRunResponse:
        run = runs_pb.Run(run_id=request.run_id, status=runs_pb.RUN_STATUS_RUNNING, model_alias="m", graph="chat@1")
        return runs_pb.GetRunResponse(run=run)

    site.runs.GetRun = told
    run = (await site.ask("GET", "/v1/runs/r1")).json
    assert (run["id"], run["status"], run["usage"], run["ended_at"]) == ("r1", "running", None, None)
    assert (await site.ask("POST", "/v1/runs/r1/cancel")).status == 200
    assert [cancel.run_id for cancel in site.runs.cancels] == ["r1"]
