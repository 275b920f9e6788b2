"""Two orchestrators, one of them SIGKILLed at any moment of a durable run: its reader hears the same answer, once.

FASTCHAT_CHAOS_ROUNDS says how often (10), FASTCHAT_CHAOS_SEED which moments.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Round:
    """What one kill did to a reader."""

    gap_s: float
    killed_owner: bool
    wrong: str
    """What was not as it must be; empty when all was."""


def one_round(stack: Stack, moments: random.Random, number: int, expected: str) -> Round:
    """Kill a replica at some moment of a run, start it again, and read on."""
    thread_id = chats.new_thread(stack)
    with chats.read(stack, PROMPT, thread_id) as reading:
        reading.ends_within(moments.uniform(0, LASTS_S))
        owner = owner_of_the_run(stack)
        # every fourth time the one that does not own it, which the reader may be attached to
        victim = moments.choice(REPLICAS) if owner is None else other(owner) if number % 4 == 3 else owner
        stack.kill(victim)
        stack.restart(victim)
        reading.wait_over()
    checks = {
        "its end": reading.ended,
        "its text": reading.text == expected,
        "its reason": reading.finish_reasons == ["stop"],
        "its thread": chats.answers(stack, thread_id) == [expected],
        "the wait": reading.longest_gap_s < GOES_ON_WITHIN_S,
    }
    bad = ", ".join(name for name, good in checks.items() if not good)
    told = f"round {number} of seed {SEED}, {victim} killed: {bad}; {reading.story()}" if bad else ""
    return Round(reading.longest_gap_s, victim == owner, told)


@pytest.mark.req("PR-034")
def test_the_stream_goes_on_and_the_answer_is_the_same(whole: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    moments = random.Random(SEED)
    expected = chats.undisturbed(whole, PROMPT)
    rounds: list[Round] = []
    for number in range(ROUNDS):
        rounds.append(one_round(whole, moments, number, expected))
        wait_whole(whole)
        if len(rounds) % 20 == 0 or len(rounds) == ROUNDS:
            with capsys.disabled():
                print(f"\n{figures(rounds)}", end="")
    wrong = [each.wrong for each in rounds if each.wrong]
    assert not wrong, "\n".join([*wrong, whole.tails()])


def figures(rounds: Sequence[Round]) -> str:
    """The figures so far, in one line."""
    gaps = sorted(each.gap_s for each in rounds)
    return (
        f"{len(rounds)} kills, {sum(each.killed_owner for each in rounds)} of the owner: "
        f"longest gap {gaps[-1]:.2f} s, median {gaps[len(gaps) // 2]:.2f} s; "
        f"{sum(bool(each.wrong) for each in rounds)} failures"
    )
