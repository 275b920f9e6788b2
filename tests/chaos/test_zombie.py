"""A replica that stands still past its lease and wakes up: nothing that it says from then on is heard."""

from __future__ import annotations

import pytest

from tests.chaos.test_killed_owner import other, owner_of_the_run
from tests.support import chats
from tests.support.reading import Reading
from tests.support.stack import Stack, until

WORDS, DELAY_MS = 120, 40
PROMPT = chats.asking(WORDS, DELAY_MS, "lighthouses")

pytestmark = pytest.mark.full


def check(reading: Reading, expected: str) -> None:
    assert reading.ended, reading.story()
    assert reading.text == expected
    assert reading.finish_reasons == ["stop"]


@pytest.mark.req("PR-034")
def test_a_zombie_is_fenced_and_none_of_its_tokens_is_seen(whole: Stack) -> None:
    expected = chats.undisturbed(whole, PROMPT)
    thread_id = chats.new_thread(whole)
    with chats.read(whole, PROMPT, thread_id) as reading:
        reading.wait_words(20)
        run_id = reading.headers["x-fastchat-run-id"]
        zombie = owner_of_the_run(whole)
        assert zombie is not None
        heir = other(zombie)
        fenced = whole.crew.metric(zombie, "fastchat_runs_fenced_total")
        taken = whole.crew.metric(heir, "fastchat_run_takeovers_total")
        whole.pause(zombie)
        until(lambda: whole.crew.metric(heir, "fastchat_run_takeovers_total") > taken, 20, whole.tails)
        # it wakes up in the middle of what its heir writes
        whole.resume(zombie)
        until(lambda: whole.crew.metric(zombie, "fastchat_runs_fenced_total") > fenced, 20, whole.tails)
        # readers of either replica, from the first event on, and the one that was there all the time
        with chats.read_again(whole, run_id) as again, chats.read_again(whole, run_id) as another:
            for each in (reading, again, another):
                check(each.wait_over(), expected)
    assert whole.crew.metric(heir, "fastchat_run_takeovers_total") == taken + 1
    assert chats.answers(whole, thread_id) == [expected]
    assert chats.run_of(whole, run_id)["status"] == "completed"
    with chats.read_again(whole, run_id) as log:
        check(log.wait_over(), expected)
