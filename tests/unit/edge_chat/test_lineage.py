"""Where the messages of a request go."""

from __future__ import annotations

from edge.lineage import Link, Tree, place, same
from fastchat.common.v1 import message_pb2 as pb


def say(role: pb.Role.ValueType, content: str) -> pb.ChatMessage:
    return pb.ChatMessage(role=role, content=[pb.ContentPart(text=content)], plain_text=True)


def user(content: str) -> pb.ChatMessage:
    return say(pb.ROLE_USER, content)


def answer(content: str) -> pb.ChatMessage:
    return say(pb.ROLE_ASSISTANT, content)


# 1 q1 - 2 a1 - 3 q2 - 4 a2   and a branch   2 a1 - 5 q2' - 6 a2'
TREE = Tree(
    [Link("1", "", 1), Link("2", "1", 2), Link("3", "2", 3), Link("5", "2", 3), Link("4", "3", 4), Link("6", "5", 4)]
)
STORED = {
    "1": user("q1"),
    "2": answer("a1"),
    "3": user("q2"),
    "4": answer("a2"),
    "5": user("other q2"),
    "6": answer("other a2"),
}


def placed(*incoming: pb.ChatMessage, head: str = "6") -> tuple[list[str], list[str]]:
    placement = place(TREE, head, STORED, incoming)
    return placement.known, [message.content[0].text for message in placement.fresh]


def test_new_messages_go_to_the_head() -> None:
    assert placed(user("q3")) == (["1", "2", "5", "6"], ["q3"])


def test_a_whole_conversation_is_skipped_up_to_what_is_new() -> None:
    whole = (user("q1"), answer("a1"), user("other q2"), answer("other a2"), user("q3"))
    assert placed(*whole) == (["1", "2", "5", "6"], ["q3"])


def test_where_it_diverges_a_branch_is_made() -> None:
    assert placed(user("q1"), answer("a1"), user("third q2")) == (["1", "2"], ["third q2"])


def test_another_branch_is_found_and_not_stored_again() -> None:
    assert placed(user("q1"), answer("a1"), user("q2"), answer("a2"), user("q3")) == (["1", "2", "3", "4"], ["q3"])


def test_the_same_request_again_stores_nothing() -> None:
    assert placed(user("q1")) == (["1"], [])


def test_an_empty_thread_takes_everything() -> None:
    placement = place(Tree([]), "", {}, [user("a"), user("b")])
    assert (placement.known, len(placement.fresh)) == ([], 2)


def test_spelling_does_not_make_a_message_another() -> None:
    parts = pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text="q1")])
    assert same(parts, user("q1"))
    reasoned = answer("a1")
    reasoned.reasoning, reasoned.id = "because", "7"
    assert same(reasoned, answer("a1"))
    calls = [pb.ToolCall(id="c", name="f", arguments_json="{}")]
    silent = pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=calls)
    echoed = pb.ChatMessage(
        role=pb.ROLE_ASSISTANT, tool_calls=calls, content=[pb.ContentPart(text="")], plain_text=True
    )
    assert same(silent, echoed)
    assert not same(user("q1"), answer("q1"))
    assert not same(user("q1"), user("q1 "))
