"""The lineage of a thread's messages: a tree by parent, one branch of which is current."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastchat.common.v1.message_pb2 import ChatMessage


@dataclass(frozen=True, slots=True)
class Link:
    """Where a stored message hangs."""

    id: str
    # "" for a first message
    parent_id: str
    # number within its branch, from 1
    position: int


class Tree:
    """All messages of a thread, by their links. Siblings are in the order in which they were written."""

    def __init__(self, links: Iterable[Link]) -> None:
        self._links: dict[str, Link] = {}
        self._children: dict[str, list[str]] = {}
        for link in links:
            self._links[link.id] = link
            self._children.setdefault(link.parent_id, []).append(link.id)

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._links

    def position(self, message_id: str) -> int:
        """Number of a message within its branch; 0 for "" (before the first)."""
        return self._links[message_id].position if message_id else 0

    def children(self, message_id: str) -> list[str]:
        """Messages that follow it; of "": the first messages."""
        return self._children.get(message_id, [])

    def branch(self, head_id: str) -> list[str]:
        """Ids from the first message to the head."""
        path: list[str] = []
        at = head_id
        while at:
            path.append(at)
            at = self._links[at].parent_id
        path.reverse()
        return path


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the messages of a request go: the ids that are there already, and those to write after them."""

    known: list[str]
    fresh: list[ChatMessage]


def place(tree: Tree, head_id: str, stored: dict[str, ChatMessage], incoming: Sequence[ChatMessage]) -> Placement:
    """Find where incoming messages go.

    If they begin with the current branch's first message, what is common is skipped and the rest hangs where they
    diverge; otherwise all of them go to the head. Other branches count: nothing is ever stored twice.
    `stored` has the content of every message of the tree.
    """
    branch = tree.branch(head_id)
    if not branch or not same(stored[branch[0]], incoming[0]):
        return Placement(branch, list(incoming))
    known = [branch[0]]
    current = set(branch)
    for message in incoming[1:]:
        # of equal siblings the one on the current branch goes on
        children = sorted(tree.children(known[-1]), key=lambda child: child not in current)
        match = next((child for child in children if same(stored[child], message)), None)
        if match is None:
            break
        known.append(match)
    return Placement(known, list(incoming[len(known) :]))


def same(one: ChatMessage, other: ChatMessage) -> bool:
    """Whether two messages say the same.

    Ids, spelling of the content (a string or one text part) and reasoning do not count: clients do not send them back.
    """
    return one.role == other.role and _essence(one) == _essence(other)


def _essence(message: ChatMessage) -> tuple[object, ...]:
    parts = [part.SerializeToString(deterministic=True) for part in message.content]
    if message.refusal and not parts:
        parts = [b"refusal:" + message.refusal.encode()]
    elif len(parts) == 1 and message.content[0].WhichOneof("part") == "refusal":
        parts = [b"refusal:" + message.content[0].refusal.encode()]
    elif len(parts) == 1 and message.content[0].WhichOneof("part") == "text" and not message.content[0].text:
        # an answer that only calls tools has no content, or an empty one
        parts = []
    calls = [(call.id, call.name, call.arguments_json) for call in message.tool_calls]
    return parts, calls, message.tool_call_id, message.name
