"""The edge that served a reader is SIGKILLed, and nobody comes back: the answer is in the thread all the same."""

from __future__ import annotations

import pytest

from tests.support import chats
from tests.support.stack import Stack, until

PROMPT = chats.asking(60, 40, "ferries")

pytestmark = pytest.mark.full


@pytest.mark.req("PR-034", "FR-017")
def test_another_edge_writes_the_answer(whole: Stack) -> None:
    elsewhere = whole.crew.url("edge-2")
    expected = chats.undisturbed(whole, PROMPT)
    thread_id = chats.new_thread(whole)
    with chats.read(whole, PROMPT, thread_id) as reading:
        reading.wait_words(10)
        whole.kill("edge")
        reading.wait_over()
    assert not reading.ended
    until(lambda: chats.answers(whole, thread_id, elsewhere), 30, whole.tails)
    assert chats.answers(whole, thread_id, elsewhere) == [expected]


@pytest.mark.req("PR-034", "FR-017")
def test_an_edge_that_comes_back_writes_the_answer(whole: Stack) -> None:
    expected = chats.undisturbed(whole, PROMPT)
    thread_id = chats.new_thread(whole)
    whole.stop("edge-2")
    with chats.read(whole, PROMPT, thread_id) as reading:
        reading.wait_words(10)
        whole.kill("edge")
    replicas = ("orchestrator", "orchestrator-2")
    until(
        lambda: not any(whole.crew.metric(name, "fastchat_runs_active", path="durable") for name in replicas),
        30,
        whole.tails,
    )
    whole.restart("edge")
    until(lambda: chats.answers(whole, thread_id), 60, whole.tails)
    assert chats.answers(whole, thread_id) == [expected]
