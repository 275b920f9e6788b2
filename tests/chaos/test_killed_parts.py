"""NATS or the model gateway dies under running chats, and comes back."""

from __future__ import annotations

import pytest

from deploy.allinone.nats import NatsServer
from tests.support import chats
from tests.support.stack import Stack, until

PROMPT = chats.asking(80, 50, "tides")
SHORT = chats.asking(30, 10, "tides")

pytestmark = pytest.mark.full


@pytest.mark.req("PR-033", "PR-034")
def test_without_nats_plain_completions_go_on_and_durable_runs_are_refused(whole: Stack, hurt_nats: NatsServer) -> None:
    expected, expected_short = chats.undisturbed(whole, PROMPT), chats.undisturbed(whole, SHORT)
    thread_id, refused_id = chats.new_thread(whole), chats.new_thread(whole)
    with chats.read(whole, PROMPT, thread_id) as running, chats.read(whole, PROMPT) as plain:
        running.wait_words(10)
        plain.wait_words(10)
        hurt_nats.kill()
        try:
            assert chats.undisturbed(whole, SHORT) == expected_short
            with chats.read(whole, SHORT, stream=False) as quiet:
                assert quiet.wait_over().status == 200, quiet.story()
            with chats.read(whole, SHORT, refused_id) as refused:
                refused.wait_over()
            assert refused.status == 503, refused.story()
            assert refused.error is not None
            assert "plain completions can" in refused.error["message"]
            assert refused.headers["retry-after"]
        finally:
            hurt_nats.start()
        for reading in (plain, running):
            assert reading.wait_over().ended, reading.story()
            assert reading.text == expected, reading.story()
    assert chats.answers(whole, thread_id) == [expected]
    # what was refused left nothing behind, and the same request is taken now
    until(lambda: runs(whole, refused_id), 30, whole.tails)
    assert chats.answers(whole, refused_id) == [expected_short]
    messages = whole.request("GET", f"/v1/threads/{refused_id}/messages")[1]
    assert [message["role"] for message in messages] == ["user", "assistant"]


def runs(stack: Stack, thread_id: str) -> bool:
    """Whether a durable run is taken and ends well."""
    with chats.read(stack, SHORT, thread_id) as reading:
        return reading.wait_over().status == 200 and reading.ended and reading.error is None


@pytest.mark.req("PR-005", "PR-033", "PR-034")
def test_a_durable_run_waits_for_the_model_gateway_and_goes_on(whole: Stack) -> None:
    expected = chats.undisturbed(whole, PROMPT)
    thread_id = chats.new_thread(whole)
    with chats.read(whole, PROMPT, thread_id) as durable, chats.read(whole, PROMPT) as plain:
        durable.wait_words(10)
        plain.wait_words(10)
        whole.kill("integration")
        # nobody answers for longer than a plain completion waits
        assert plain.wait_over().ended, plain.story()
        assert plain.error is not None
        assert expected.startswith(plain.text)
        whole.restart("integration")
        assert durable.wait_over().ended, durable.story()
    assert durable.text == expected
    assert durable.finish_reasons == ["stop"]
    assert chats.answers(whole, thread_id) == [expected]
