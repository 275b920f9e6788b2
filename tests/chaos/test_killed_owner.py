"""Two orchestrators, one of them SIGKILLed at any moment of a durable run: its reader hears the same answer, once.

FASTCHAT_CHAOS_ROUNDS says how often (10), FASTCHAT_CHAOS_SEED which moments.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.conftest import wait_whole
from tests.support import chats
from tests.support.stack import Stack

ROUNDS = int(os.environ.get("FASTCHAT_CHAOS_ROUNDS", "10"))
SEED = int(os.environ.get("FASTCHAT_CHAOS_SEED", "20"))
REPLICAS = ("orchestrator", "orchestrator-2")
GOES_ON_WITHIN_S = 5.0
WORDS, DELAY_MS = 60, 40
PROMPT = chats.asking(WORDS, DELAY_MS)
LASTS_S = WORDS * DELAY_MS / 1000

pytestmark = [pytest.mark.full, pytest.mark.timeout(120 + 30 * ROUNDS)]


def owner_of_the_run(stack: Stack) -> str | None:
    """The replica that executes a durable run now."""
    active = (name for name in REPLICAS if stack.crew.metric(name, "fastchat_runs_active", path="durable"))
    return next(active, None)


def other(replica: str) -> str:
    """The one that is not it."""
    return REPLICAS[1 - REPLICAS.index(replica)]


@pytest.mark.req("PR-034")
def test_the_stream_goes_on_and_the_answer_is_the_same(whole: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    moments = random.Random(SEED)
    expected = chats.undisturbed(whole, PROMPT)
    gaps: list[float] = []
    owners = 0
    for number in range(ROUNDS):
        thread_id = chats.new_thread(whole)
        with chats.read(whole, PROMPT, thread_id) as reading:
            reading.ends_within(moments.uniform(0, LASTS_S))
            owner = owner_of_the_run(whole)
            # every fourth time the one that does not own it, which the reader may be attached to
            victim = moments.choice(REPLICAS) if owner is None else other(owner) if number % 4 == 3 else owner
            owners += victim == owner
            whole.kill(victim)
            whole.restart(victim)
            reading.wait_over()
        told = f"round {number} of seed {SEED}, {victim} killed: {reading.story()}\n{whole.tails()}"
        assert reading.ended, told
        assert reading.text == expected, told
        assert reading.finish_reasons == ["stop"], told
        assert chats.answers(whole, thread_id) == [expected], told
        assert reading.longest_gap_s < GOES_ON_WITHIN_S, told
        gaps.append(reading.longest_gap_s)
        wait_whole(whole)
    with capsys.disabled():
        print(f"\n{ROUNDS} kills, {owners} of the owner; longest gap {max(gaps):.2f} s, ", end="")
        print(f"median {sorted(gaps)[len(gaps) // 2]:.2f} s; no answer differed")
