"""Every service is restarted in turn, as a release does it, with chats running over it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

import pytest

from tests.chaos.conftest import DRAIN_S, wait_whole
from tests.support import chats
from tests.support.reading import Reading
from tests.support.stack import Stack, until

WORDS, DELAY_MS = 60, 50
PROMPT = chats.asking(WORDS, DELAY_MS, "bridges")
# a few seconds longer than anybody drains
LONG = chats.asking(4 * 20 * DRAIN_S // 2, DELAY_MS, "rivers")
EVERYTHING = (
    "knowledge",
    "memory",
    "control",
    "integration",
    "orchestrator",
    "orchestrator-2",
    "edge",
    "edge-2",
)

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def expected(platform: Stack) -> str:
    return chats.undisturbed(platform, PROMPT)


@pytest.fixture(scope="module")
def expected_long(platform: Stack) -> str:
    return chats.undisturbed(platform, LONG)


def url_of(stack: Stack, name: str) -> str:
    """The edge that is to be restarted, else the first."""
    return stack.crew.url(name) if name == "edge-2" else stack.url


@pytest.mark.req("PR-034", "PR-035")
@pytest.mark.parametrize("name", EVERYTHING)
def test_nothing_that_can_end_in_time_is_cut(whole: Stack, expected: str, name: str) -> None:
    url = url_of(whole, name)
    thread_id = chats.new_thread(whole, url)
    with ExitStack() as readers:
        plain = [readers.enter_context(chats.read(whole, PROMPT, url=url)) for _ in range(3)]
        durable = readers.enter_context(chats.read(whole, PROMPT, thread_id, url))
        quiet = readers.enter_context(chats.read(whole, PROMPT, url=url, stream=False))
        for reading in (*plain, durable):
            reading.wait_words(10)
        assert whole.stop(name) == 0, whole.processes[name].tail()
        whole.restart(name)
        for reading in (*plain, durable):
            check(reading.wait_over(), expected)
        assert whole_answer(quiet) == expected
    wait_whole(whole)
    assert chats.answers(whole, thread_id, url) == [expected]


def check(reading: Reading, expected: str) -> None:
    assert reading.ended, reading.story()
    assert reading.text == expected, reading.story()
    assert reading.finish_reasons == ["stop"]


def whole_answer(reading: Reading) -> str:
    assert (reading.wait_over().status, reading.broken) == (200, ""), reading.story()
    return str(json.loads(reading.frames[0].data)["choices"][0]["message"]["content"])


@pytest.mark.req("FR-010", "PR-034")
def test_streams_that_outlive_their_edge_end_properly(whole: Stack, expected_long: str) -> None:
    thread_id = chats.new_thread(whole)
    with chats.read(whole, LONG, thread_id) as durable, chats.read(whole, LONG) as plain:
        durable.wait_words(10)
        plain.wait_words(10)
        began = time.monotonic()
        assert whole.stop("edge") == 0, whole.processes["edge"].tail()
        took = time.monotonic() - began
        for reading in (durable.wait_over(), plain.wait_over()):
            assert reading.ended, reading.story()
            assert reading.error is not None
            assert reading.frames[-1].at - began >= DRAIN_S - 1
    assert took < DRAIN_S + 5
    whole.restart("edge")
    # nobody reads it, and it is not lost
    until(lambda: chats.answers(whole, thread_id, whole.crew.url("edge-2")), 60, whole.tails)
    assert chats.answers(whole, thread_id, whole.crew.url("edge-2")) == [expected_long]


@pytest.mark.req("PR-034")
@pytest.mark.parametrize("name", ["orchestrator", "integration"])
def test_a_durable_run_outlives_the_drain_of_what_it_runs_on(whole: Stack, expected_long: str, name: str) -> None:
    thread_ids = [chats.new_thread(whole) for _ in range(2)]
    with ExitStack() as readers:
        readings = [readers.enter_context(chats.read(whole, LONG, thread_id)) for thread_id in thread_ids]
        for reading in readings:
            reading.wait_words(10)
        assert whole.stop(name) == 0, whole.processes[name].tail()
        whole.restart(name)
        for reading in readings:
            check(reading.wait_over(90), expected_long)
    for thread_id in thread_ids:
        assert chats.answers(whole, thread_id) == [expected_long]


@pytest.mark.req("FR-010")
@pytest.mark.parametrize("name", ["orchestrator", "integration"])
def test_a_plain_completion_that_is_cut_ends_properly(whole: Stack, name: str) -> None:
    with ExitStack() as readers:
        readings = [readers.enter_context(chats.read(whole, LONG)) for _ in range(2)]
        for reading in readings:
            reading.wait_words(10)
        assert whole.stop(name) == 0, whole.processes[name].tail()
        whole.restart(name)
        for reading in readings:
            assert reading.wait_over(90).ended, reading.story()
    cut = [reading for reading in readings if reading.error is not None]
    assert cut, "at least the one on that replica"
