"""Readers in memory see what was appended, once, in order."""

from __future__ import annotations

import asyncio

from orchestrator.feed import Feed, Feeds
from tests.unit.orchestrator.samples import event, token

KEY = ("t1", "run")


async def read(feed: Feed, after: int) -> list[int]:
    return [one.sequence async for events in feed.read(after) for one in events]


async def test_a_reader_gets_everything_after_its_cursor() -> None:
    feed = Feed(after=0)
    feed.publish([event(1, token("a")), event(2, token("b"))])
    reading = asyncio.ensure_future(read(feed, 1))
    await asyncio.sleep(0)
    feed.publish([event(3, token("c"))])
    feed.close()
    assert await reading == [2, 3]


async def test_events_that_are_ready_come_together() -> None:
    feed = Feed(after=0)
    feed.publish([event(number, token("a")) for number in range(1, 4)])
    assert [len(events) async for events in _closing(feed)] == [3]


async def _closing(feed: Feed):  # type: ignore[no-untyped-def]
    feed.close()
    async for events in feed.read(0):
        yield events


def test_a_feed_serves_only_cursors_without_a_gap() -> None:
    feed = Feed(after=5)
    feed.publish([event(6, token("a"))])
    assert [feed.covers(after) for after in (4, 5, 6, 7)] == [False, True, True, False]


def test_a_closed_feed_does_not_keep_a_reader_that_has_all_of_it() -> None:
    feed = Feed(after=0)
    feed.publish([event(1, token("a"))])
    feed.close()
    assert (feed.covers(0), feed.covers(1)) == (True, False)


def test_a_newer_feed_of_a_run_replaces_the_older() -> None:
    feeds = Feeds()
    older = feeds.open(KEY, 0)
    newer = feeds.open(KEY, 3)
    feeds.remove(KEY, older)
    assert feeds.covering(KEY, 3) is newer
    feeds.remove(KEY, newer)
    assert feeds.covering(KEY, 3) is None
