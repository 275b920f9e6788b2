"""Threads: what a turn adds to a conversation, and where its answer goes.

A turn is one request on a thread: its messages are written before the run starts (`begin`), its answer when the run
ends (`commit`, safe to repeat), and nothing of it stays when the run never answered (`retract`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from edge.lineage import Link, Placement, Tree, place
from edge.openai.render import plain_text
from edge.projections.fold import Answer
from edge.store import NewMessage, Reach, ThreadSession, ThreadStore
from fastchat.common.v1.message_pb2 import ChatMessage
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.gateway.v1 import thread_service_pb2 as pb
from kit.db import utc_now
from kit.errors import PlatformError, Reason
from kit.ids import is_uuid, new_uuid
from kit.paging import decode_token, encode_token, page_size
from kit.telemetry import get_logger

log = get_logger(__name__)

LONGEST_TITLE = 512
_PREVIEW = 120
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVERYTHING = Reach()


@dataclass(frozen=True, slots=True)
class ThreadTurn:
    """What `begin` did. `messages` is the whole branch, the new ones included: what the model reads."""

    thread_id: str
    # whether this turn made the thread
    created: bool
    # last message of the branch: the answer follows it
    parent_message_id: str
    fresh_ids: tuple[str, ...]
    messages: tuple[ChatMessage, ...]
    # how the thread stood before
    head_before: str
    run_before: str


@dataclass(frozen=True, slots=True)
class Page:
    """Threads and the token of the next page ("": no more)."""

    threads: list[pb.Thread]
    next_page_token: str


def reach_of(principal: Principal) -> Reach:
    """A person sees their own threads; an application sees those of its workspace, or of the person it acts for."""
    person = principal.subject if principal.subject.startswith("user:") else ""
    return Reach(principal.workspace_id, principal.act_for or person)


class Threads:
    """The threads of every tenant. Methods take the caller; what is out of reach is THREAD_NOT_FOUND."""

    def __init__(self, store: ThreadStore) -> None:
        self._store = store

    async def begin(
        self, principal: Principal, thread_id: str, incoming: Sequence[ChatMessage], run_id: str
    ) -> ThreadTurn:
        """Write the messages of a request (none of them twice) and mark the run as active. "" makes a new thread."""
        tenant = principal.tenant_id
        if not thread_id:
            thread_id = new_uuid()
            owner = principal.act_for or principal.subject
            async with self._store.create(tenant, thread_id, principal.workspace_id, owner) as session:
                return await _begin(session, incoming, run_id, created=True)
        check_id(thread_id)
        async with self._store.open(tenant, thread_id, reach_of(principal)) as session:
            return await _begin(session, incoming, run_id, created=False)

    async def retract(self, tenant_id: str, turn: ThreadTurn, run_id: str) -> None:
        """Undo `begin`, because the run never answered. Safe to repeat; messages that others follow stay."""
        try:
            async with self._store.open(tenant_id, turn.thread_id, _EVERYTHING) as session:
                await _retract(session, turn, run_id)
        except PlatformError as error:
            if error.reason is not Reason.THREAD_NOT_FOUND:
                raise

    async def commit(self, tenant_id: str, answer: Answer) -> None:
        """Write a run's answer, and release the thread from the run. Safe to repeat and to race with itself."""
        try:
            async with self._store.open(tenant_id, answer.thread_id, _EVERYTHING) as session:
                await _commit(session, answer)
        except PlatformError as error:
            # deleted meanwhile: there is nowhere to write to
            if error.reason is not Reason.THREAD_NOT_FOUND:
                raise

    async def create(self, principal: Principal, user_id: str, title: str) -> pb.Thread:
        """Make an empty thread. Only an application's key may name another user than the caller."""
        reach = reach_of(principal)
        if reach.user_id and user_id not in ("", reach.user_id):
            raise PlatformError(
                Reason.POLICY_DENIED,
                "You may only create threads of your own.",
                rule="thread-owner",
                action="thread.write",
            )
        owner = user_id or reach.user_id or principal.subject
        async with self._store.create(principal.tenant_id, new_uuid(), principal.workspace_id, owner) as session:
            session.set_title(title)
            return session.thread()

    async def get(self, principal: Principal, thread_id: str) -> pb.Thread:
        """One thread."""
        async with self._open(principal, thread_id, read_only=True) as session:
            return session.thread()

    async def page(self, principal: Principal, size: int, token: str, user_id: str = "") -> Page:
        """Threads in the caller's reach, last used first; `user_id` narrows further."""
        reach = reach_of(principal)
        if user_id and reach.user_id not in ("", user_id):
            return Page([], "")
        size = page_size(size)
        before: tuple[datetime, str] | None = None
        if token:
            micros, last = decode_token(token, 2)
            before = (_EPOCH + timedelta(microseconds=_number(micros)), str(last))
        reach = Reach(reach.workspace_id, reach.user_id or user_id)
        rows = await self._store.list(principal.tenant_id, reach, size + 1, before)
        if len(rows) <= size:
            return Page([thread for thread, _ in rows], "")
        rows = rows[:size]
        last_thread, updated = rows[-1]
        return Page([thread for thread, _ in rows], encode_token(_micros(updated), last_thread.id))

    async def visible(self, principal: Principal, thread_ids: Collection[str]) -> set[str]:
        """Which of the threads the caller sees."""
        return await self._store.visible(principal.tenant_id, thread_ids, reach_of(principal))

    async def update(
        self, principal: Principal, thread_id: str, title: str | None = None, is_pinned: bool | None = None
    ) -> pb.Thread:
        """Change title or pin; None leaves it."""
        async with self._open(principal, thread_id) as session:
            if title is not None:
                session.set_title(title)
            if is_pinned is not None:
                session.row.is_pinned = is_pinned
            return session.thread()

    async def delete(self, principal: Principal, thread_id: str) -> pb.Thread:
        """Remove a thread with its messages; tells how it was (its active run is the caller's to cancel)."""
        async with self._open(principal, thread_id) as session:
            thread = session.thread()
            await session.delete()
            return thread

    async def messages(
        self, principal: Principal, thread_id: str, size: int, token: str
    ) -> tuple[list[pb.ThreadMessage], str]:
        """Messages of the current branch, oldest first -> (messages, token of the next page)."""
        size = page_size(size)
        start = _number(decode_token(token, 1)[0]) if token else 0
        async with self._open(principal, thread_id, read_only=True) as session:
            branch = _tree(await session.links()).branch(session.row.head_id)
            page = await session.messages(branch[start : start + size])
        more = start + size < len(branch)
        return page, encode_token(start + size) if more else ""

    def _open(
        self, principal: Principal, thread_id: str, *, read_only: bool = False
    ) -> AbstractAsyncContextManager[ThreadSession]:
        check_id(thread_id)
        return self._store.open(principal.tenant_id, thread_id, reach_of(principal), read_only=read_only)


def check_id(thread_id: str) -> None:
    """An id that none of ours looks like is one that does not exist."""
    if not is_uuid(thread_id):
        raise PlatformError(Reason.THREAD_NOT_FOUND, f"No thread found with id '{thread_id}'.", id=thread_id)


async def _begin(session: ThreadSession, incoming: Sequence[ChatMessage], run_id: str, *, created: bool) -> ThreadTurn:
    row = session.row
    head_before, run_before = row.head_id, row.active_run_id
    stored = {} if created else await session.contents()
    tree = Tree([]) if created else _tree(await session.links())
    placement = place(tree, row.head_id, stored, incoming)
    added = _numbered(tree, placement)
    session.add(added)
    branch = [*(stored[known] for known in placement.known), *(new.message for new in added)]
    last = added[-1].id if added else placement.known[-1]
    session.set_head(last, len(branch), _preview(branch[-1]), utc_now())
    row.active_run_id = run_id
    return ThreadTurn(
        thread_id=row.id,
        created=created,
        parent_message_id=last,
        fresh_ids=tuple(new.id for new in added),
        messages=tuple(branch),
        head_before=head_before,
        run_before=run_before,
    )


def _numbered(tree: Tree, placement: Placement) -> list[NewMessage]:
    """The fresh messages with ids, hung one after another."""
    parent = placement.known[-1] if placement.known else ""
    position = tree.position(parent)
    added: list[NewMessage] = []
    for message in placement.fresh:
        position += 1
        copy = ChatMessage()
        copy.CopyFrom(message)
        copy.id = new_uuid()
        added.append(NewMessage(copy.id, parent, position, copy))
        parent = copy.id
    return added


async def _retract(session: ThreadSession, turn: ThreadTurn, run_id: str) -> None:
    row = session.row
    tree = _tree(await session.links())
    fresh = set(turn.fresh_ids)
    followed = any(child not in fresh for message_id in fresh for child in tree.children(message_id))
    if not followed:
        if turn.created:
            await session.delete()
            return
        await session.remove(turn.fresh_ids)
        if row.head_id == turn.parent_message_id:
            await _restore_head(session, tree, turn.head_before)
    if row.active_run_id == run_id:
        row.active_run_id = turn.run_before


async def _restore_head(session: ThreadSession, tree: Tree, head_id: str) -> None:
    preview = ""
    if head_id:
        (head,) = await session.messages([head_id])
        preview = _preview(head.message)
    session.set_head(head_id, tree.position(head_id), preview, session.row.updated_at)


async def _commit(session: ThreadSession, answer: Answer) -> None:
    row = session.row
    if row.active_run_id == answer.run_id:
        row.active_run_id = ""
    if all(choice.empty for choice in answer.choices.values()):
        return
    parent = answer.options.parent_message_id
    tree = _tree(await session.links())
    if parent and parent not in tree:
        log.warning("thread.answer_without_parent", run_id=answer.run_id, thread_id=row.id)
        return
    position = tree.position(parent) + 1
    for index in answer.indexes():
        choice = answer.choices.get(index)
        message_id = answer_id(answer.started.response_message_id, index)
        if choice is None or choice.empty or message_id in tree:
            continue
        message = choice.message()
        session.add([NewMessage(message_id, parent, position, message, answer.run_id, answer.outcome)])
        if row.head_id == parent:
            session.set_head(message_id, position, _preview(message), utc_now())


def answer_id(message_id: str, index: int) -> str:
    """Id of a choice of an answer: the first has the message's own, the others are its siblings."""
    return message_id if index == 0 else str(uuid5(UUID(message_id), str(index)))


def _tree(links: Sequence[tuple[str, str, int]]) -> Tree:
    return Tree(Link(*link) for link in links)


def _preview(message: ChatMessage) -> str:
    text = " ".join((plain_text(message) or message.refusal).split())
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _number(part: str | int) -> int:
    # beyond it no time can be told
    if not isinstance(part, int) or not 0 <= part < 2**53:
        raise PlatformError.invalid("page_token", "The page token is not one that this method gave out.")
    return part
