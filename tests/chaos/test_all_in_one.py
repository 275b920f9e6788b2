"""The all-in-one's processes are SIGKILLed in mid-answer: its supervisor mends it, or the next start does."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.support import chats
from tests.support.stack import Stack, all_in_one, until

DRAIN_S = 5
PROMPT = chats.asking(80, 50, "islands")
LONG = chats.asking(180, 50, "continents")

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def single(upstream_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    env = {"FASTCHAT_MESH__DRAIN_S": str(DRAIN_S)}
    with all_in_one(tmp_path_factory.mktemp("single"), upstream_url, env) as running:
        yield running


@pytest.fixture(scope="module")
def expected(single: Stack) -> str:
    return chats.undisturbed(single, PROMPT)


@pytest.mark.req("PR-034")
@pytest.mark.parametrize("service", ["edge", "integration"])
def test_the_supervisor_starts_it_again_and_the_run_ends(single: Stack, expected: str, service: str) -> None:
    thread_id = chats.new_thread(single)
    with chats.read(single, PROMPT, thread_id) as reading:
        reading.wait_words(10)
        run_id = reading.headers["x-fastchat-run-id"]
        before = single.pid_of(service)
        single.kill(service)
        reading.wait_over(90)
    until(lambda: chats.answers(single, thread_id), 90, single.tails)
    assert chats.answers(single, thread_id) == [expected]
    assert single.pid_of(service) != before
    with chats.read_again(single, run_id) as again:
        assert again.wait_over().ended, again.story()
    assert again.text == expected


@pytest.mark.req("FR-010", "PR-034", "PR-035")
def test_a_stop_lets_streams_end_and_loses_no_run(single: Stack, expected: str) -> None:
    expected_long = chats.undisturbed(single, LONG)
    thread_id = chats.new_thread(single)
    up = single.processes["up"]
    with (
        chats.read(single, PROMPT) as short,
        chats.read(single, LONG, thread_id) as durable,
        chats.read(single, LONG) as plain,
    ):
        for reading in (short, durable, plain):
            reading.wait_words(20)
        assert up.end(signal.SIGTERM) == 0, up.tail()
        for reading in (short, durable, plain):
            assert reading.wait_over().ended, reading.story()
    assert "Traceback" not in up.log.read_text()
    assert short.text == expected
    for cut in (durable, plain):
        assert cut.error is not None
        assert cut.error["code"] == "draining"
        assert expected_long.startswith(cut.text)
    single.start()
    until(lambda: chats.answers(single, thread_id), 60, single.tails)
    assert chats.answers(single, thread_id) == [expected_long]


@pytest.mark.req("PR-034")
def test_the_supervisor_is_killed_and_nothing_is_left_nor_lost(single: Stack, expected: str) -> None:
    thread_id = chats.new_thread(single)
    up = single.processes["up"]
    left = psutil.Process(up.pid).children(recursive=True)
    assert len(left) >= 4, left
    with chats.read(single, PROMPT, thread_id) as reading:
        reading.wait_words(10)
        up_alone(up.pid)
        until(lambda: not any(process.is_running() for process in left), 10, lambda: f"orphans: {left}")
    up.end(signal.SIGKILL)
    single.start()
    until(lambda: chats.answers(single, thread_id), 60, single.tails)
    assert chats.answers(single, thread_id) == [expected]


def up_alone(pid: int) -> None:
    """SIGKILL the supervisor only, not its group."""
    psutil.Process(pid).kill()
