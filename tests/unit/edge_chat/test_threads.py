"""Threads in the store: turns, answers, reach, sealing."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.projections import Options
from edge.projections.fold import Answer
from edge.run_access import RunAccess
from edge.store import TABLES, Sealer
from edge.threads import Threads, ThreadTurn
from fastchat.common.v1 import event_pb2 as events_pb
from fastchat.common.v1 import message_pb2 as pb
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.common.v1.scope_service_pb2 import EraseScopeRequest, ExportScopeRequest, Scope
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from kit.crypto import Keyring
from kit.db import Database
from kit.db.scope import ScopeServicer
from kit.errors import PlatformError, Reason
from kit.ids import new_uuid
from kit.principal import acting_as
from tests.unit.edge_chat.runs import complete, failed, numbered, started, text, usage

APP = Principal(tenant_id="t1", subject="key:1", scopes=["chat"])
OTHER = Principal(tenant_id="t2", subject="key:2", scopes=["chat"])


def user(content: str) -> pb.ChatMessage:
    return pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text=content)], plain_text=True)


def assistant(content: str) -> pb.ChatMessage:
    return pb.ChatMessage(role=pb.ROLE_ASSISTANT, content=[pb.ContentPart(text=content)], plain_text=True)


def answered(turn: ThreadTurn, run_id: str, *payloads: object, n: int = 1, message_id: str | None = None) -> Answer:
    answer = Answer()
    options = Options(n=n, parent_message_id=turn.parent_message_id).to_json()
    first = started(options, response_message_id=message_id or new_uuid())
    for event in numbered([first, *payloads], turn.thread_id, run_id):
        answer.feed(event)
    return answer


async def contents(threads: Threads, thread_id: str) -> list[str]:
    messages, _ = await threads.messages(APP, thread_id, 0, "")
    return [stored.message.content[0].text for stored in messages]


async def turn_of(threads: Threads, thread_id: str, question: str, reply: str) -> ThreadTurn:
    run_id = new_uuid()
    turn = await threads.begin(APP, thread_id, [user(question)], run_id)
    await threads.commit("t1", answered(turn, run_id, text(reply), usage(), complete()))
    return turn


@pytest.mark.req("FR-017")
async def test_a_conversation_grows_by_turns(threads: Threads) -> None:
    first = await turn_of(threads, "", "q1", "a1")
    second = await turn_of(threads, first.thread_id, "q2", "a2")
    assert [message.content[0].text for message in second.messages] == ["q1", "a1", "q2"]
    assert all(message.id for message in second.messages)
    assert await contents(threads, first.thread_id) == ["q1", "a1", "q2", "a2"]
    thread = await threads.get(APP, first.thread_id)
    assert (thread.message_count, thread.last_message_preview, thread.active_run_id) == (4, "a2", "")


async def test_the_whole_conversation_sent_again_is_stored_once(threads: Threads) -> None:
    first = await turn_of(threads, "", "q1", "a1")
    sent = [user("q1"), assistant("a1"), user("q2")]
    for _ in range(3):
        turn = await threads.begin(APP, first.thread_id, sent, new_uuid())
        assert [message.content[0].text for message in turn.messages] == ["q1", "a1", "q2"]
    assert await contents(threads, first.thread_id) == ["q1", "a1", "q2"]


async def test_a_divergence_is_a_branch_and_the_old_one_stays(threads: Threads) -> None:
    first = await turn_of(threads, "", "q1", "a1")
    await turn_of(threads, first.thread_id, "q2", "a2")
    run_id = new_uuid()
    turn = await threads.begin(APP, first.thread_id, [user("q1"), assistant("a1"), user("q2 edited")], run_id)
    await threads.commit("t1", answered(turn, run_id, text("a2 new"), usage(), complete()))
    assert await contents(threads, first.thread_id) == ["q1", "a1", "q2 edited", "a2 new"]
    whole = [user("q1"), assistant("a1"), user("q2"), assistant("a2"), user("q3")]
    back = await threads.begin(APP, first.thread_id, whole, new_uuid())
    assert len(back.fresh_ids) == 1
    assert await contents(threads, first.thread_id) == ["q1", "a1", "q2", "a2", "q3"]


@pytest.mark.req("PR-034")
async def test_an_answer_is_committed_once_whoever_commits(threads: Threads) -> None:
    run_id = new_uuid()
    turn = await threads.begin(APP, "", [user("q")], run_id)
    assert (await threads.get(APP, turn.thread_id)).active_run_id == run_id
    answer = answered(turn, run_id, text("a"), usage(), complete())
    await asyncio.gather(*(threads.commit("t1", answer) for _ in range(5)))
    assert await contents(threads, turn.thread_id) == ["q", "a"]
    assert (await threads.get(APP, turn.thread_id)).active_run_id == ""


async def test_choices_are_siblings_and_the_first_goes_on(threads: Threads) -> None:
    run_id = new_uuid()
    turn = await threads.begin(APP, "", [user("q")], run_id)
    answer = answered(turn, run_id, text("a"), text("b", choice_index=1), usage(), complete("stop", "stop"), n=2)
    await threads.commit("t1", answer)
    assert await contents(threads, turn.thread_id) == ["q", "a"]
    again = await threads.begin(APP, turn.thread_id, [user("q"), assistant("b"), user("q2")], new_uuid())
    assert len(again.fresh_ids) == 1


async def test_what_was_said_before_a_failure_is_kept(threads: Threads) -> None:
    run_id = new_uuid()
    turn = await threads.begin(APP, "", [user("q")], run_id)
    await threads.commit("t1", answered(turn, run_id, text("hal"), usage(), failed()))
    assert await contents(threads, turn.thread_id) == ["q", "hal"]


async def test_a_turn_that_never_answered_leaves_nothing(threads: Threads) -> None:
    first = await turn_of(threads, "", "q1", "a1")
    before = await threads.get(APP, first.thread_id)
    for _ in range(3):
        run_id = new_uuid()
        turn = await threads.begin(APP, first.thread_id, [user("q2")], run_id)
        await threads.retract("t1", turn, run_id)
        await threads.retract("t1", turn, run_id)
    assert await contents(threads, first.thread_id) == ["q1", "a1"]
    after = await threads.get(APP, first.thread_id)
    assert (after.message_count, after.last_message_preview, after.active_run_id) == (2, "a1", "")
    assert before.message_count == 2


async def test_a_thread_made_for_a_turn_that_never_answered_goes_with_it(threads: Threads) -> None:
    turn = await threads.begin(APP, "", [user("q")], "r")
    await threads.retract("t1", turn, "r")
    with pytest.raises(PlatformError) as caught:
        await threads.get(APP, turn.thread_id)
    assert caught.value.reason is Reason.THREAD_NOT_FOUND


async def test_committing_to_a_deleted_thread_is_no_failure(threads: Threads) -> None:
    run_id = new_uuid()
    turn = await threads.begin(APP, "", [user("q")], run_id)
    await threads.delete(APP, turn.thread_id)
    await threads.commit("t1", answered(turn, run_id, text("a"), usage(), complete()))
    assert (await threads.page(APP, 0, "")).threads == []


@pytest.mark.req("PR-030")
async def test_another_tenants_thread_is_like_one_that_is_not_there(threads: Threads) -> None:
    thread = await threads.create(APP, "", "mine")
    failures = []
    for thread_id in (thread.id, new_uuid(), "no-uuid"):
        for attempt in (
            threads.get(OTHER, thread_id),
            threads.update(OTHER, thread_id, "x"),
            threads.delete(OTHER, thread_id),
            threads.messages(OTHER, thread_id, 0, ""),
            threads.begin(OTHER, thread_id, [user("q")], "r"),
        ):
            with pytest.raises(PlatformError) as caught:
                await attempt
            failures.append((caught.value.reason, caught.value.message.replace(thread_id, "ID")))
    assert len(set(failures)) == 1
    assert (await threads.page(OTHER, 0, "")).threads == []


async def test_a_person_sees_their_own_threads_and_an_application_those_of_its_workspace(threads: Threads) -> None:
    ann = Principal(tenant_id="t1", workspace_id="w1", subject="user:ann")
    bob = Principal(tenant_id="t1", workspace_id="w1", subject="user:bob")
    app = Principal(tenant_id="t1", workspace_id="w1", subject="key:1")
    for_ann = Principal(tenant_id="t1", workspace_id="w1", subject="key:1", act_for="user:ann")
    elsewhere = Principal(tenant_id="t1", workspace_id="w2", subject="key:3")
    thread = await threads.create(ann, "", "")
    seen = [len((await threads.page(who, 0, "")).threads) for who in (ann, bob, app, for_ann, elsewhere, APP)]
    assert seen == [1, 0, 1, 1, 0, 1]
    assert (await threads.get(app, thread.id)).user_id == "user:ann"
    with pytest.raises(PlatformError) as caught:
        await threads.create(bob, "user:ann", "")
    assert caught.value.reason is Reason.POLICY_DENIED


@pytest.mark.req("FR-021")
async def test_pages_follow_one_another_last_used_first(threads: Threads) -> None:
    made = [(await threads.create(APP, "", str(number))).id for number in range(7)]
    seen: list[str] = []
    token = ""
    while True:
        page = await threads.page(APP, 3, token)
        seen += [thread.id for thread in page.threads]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]


@pytest.mark.parametrize("token", ["x", "WyJhIiwiYiJd", "WzEwMDAwMDAwMDAwMDAwMDAwMDAwLCJiIl0", "Wy0xLCJiIl0"])
async def test_a_made_up_token_is_refused(threads: Threads, token: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await threads.page(APP, 3, token)
    assert (caught.value.reason, caught.value.metadata["field"]) == (Reason.INVALID_ARGUMENT, "page_token")


async def test_messages_are_paged_oldest_first(threads: Threads) -> None:
    turn = await threads.begin(APP, "", [user(str(number)) for number in range(5)], "r")
    first, token = await threads.messages(APP, turn.thread_id, 3, "")
    second, end = await threads.messages(APP, turn.thread_id, 3, token)
    assert [stored.message.content[0].text for stored in [*first, *second]] == ["0", "1", "2", "3", "4"]
    assert end == ""
    assert second[0].parent_id == first[-1].id


@pytest.mark.req("PR-028")
async def test_nothing_that_people_wrote_is_in_the_file(threads: Threads, tmp_path: Path) -> None:
    thread = await threads.create(APP, "", "the title of it")
    run_id = new_uuid()
    turn = await threads.begin(APP, thread.id, [user("the question of it")], run_id)
    await threads.commit("t1", answered(turn, run_id, text("the answer of it"), usage(), complete()))
    raw = b"".join(path.read_bytes() for path in (tmp_path / "edge").iterdir())
    assert b"of it" not in raw
    (file,) = (tmp_path / "edge").glob("*.db")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        assert all(
            key_id for (key_id,) in connection.execute("select key_id from messages union select key_id from threads")
        )
    connection.close()
    assert (await threads.get(APP, thread.id)).title == "the title of it"


def test_outcomes_are_told() -> None:
    answer = Answer()
    for event in numbered([started(), text("a"), complete(outcome=events_pb.RUN_OUTCOME_CANCELLED)]):
        answer.feed(event)
    assert answer.outcome == "cancelled"


async def test_runs_are_seen_with_their_threads(threads: Threads) -> None:
    ann, bob = (Principal(tenant_id="t1", subject=f"user:{name}") for name in ("ann", "bob"))
    thread = await threads.create(ann, "", "")
    run = runs_pb.Run(run_id="r", thread_id=thread.id)

    async def told(request: object) -> SimpleNamespace:
        return SimpleNamespace(run=run, runs=[run], next_page_token="")

    service = SimpleNamespace(GetRun=told, CancelRun=told, ListRuns=told)
    access = RunAccess(SimpleNamespace(runs=service), threads)  # type: ignore[arg-type]
    for who in (ann, APP):
        assert await access.get(who, "r") == run
        assert len((await access.page(who, runs_pb.ListRunsRequest())).runs) == 1
    assert not (await access.page(bob, runs_pb.ListRunsRequest())).runs
    for attempt in (access.get(bob, "r"), access.cancel(bob, "r"), access.check(bob, "r")):
        with pytest.raises(PlatformError) as caught:
            await attempt
        assert caught.value.reason is Reason.RUN_NOT_FOUND


@pytest.mark.req("PR-028")
async def test_an_export_tells_what_people_wrote_and_an_erasure_leaves_nothing(
    threads: Threads, database: Database, keyring: Keyring
) -> None:
    ann = Principal(tenant_id="t1", subject="user:ann")
    mine = await threads.create(ann, "", "my title")
    await threads.begin(ann, mine.id, [user("my question")], "r")
    await threads.create(Principal(tenant_id="t1", subject="user:bob"), "", "his title")
    servicer = ScopeServicer(database, TABLES, export=Sealer(keyring).export)
    scope = Scope(tenant_id="t1", subject="user:ann")
    with acting_as(Principal(tenant_id="t1", subject="key:admin", roles=["admin"], scopes=["admin"])):
        rows = [row async for row in servicer.ExportScope(ExportScopeRequest(scope=scope), None)]  # type: ignore[arg-type]
        erased = await servicer.EraseScope(EraseScopeRequest(scope=scope), None)  # type: ignore[arg-type]
    told = "".join(row.row_json for row in rows)
    assert "my title" in told
    assert "my question" in told
    assert "his title" not in told
    assert {(row.table, row.data_class) for row in rows} == {("edge.messages", 2), ("edge.threads", 2)}
    assert dict(erased.rows) == {"edge.messages": 1, "edge.threads": 1}
    assert [thread.title for thread in (await threads.page(APP, 0, "")).threads] == ["his title"]
