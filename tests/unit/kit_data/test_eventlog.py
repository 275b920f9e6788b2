"""The event log, on a real NATS server: fenced, complete, gapless."""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastchat.common.v1.event_pb2 import RunEvent, TokenKind
from kit.bus import Bus, BusConfig, Stored
from kit.crypto import Keyring, MasterKey
from kit.errors import PlatformError, Reason
from kit.eventlog import EventLog, Fenced, LogKey, RunLogFull, tail
from tests.support.nats import nats_server
from tests.unit.kit_data.waiting import until

pytestmark = pytest.mark.req("FR-018", "PR-024")


def event(number: int, text: str = "x", *, final: bool = False) -> bytes:
    made = RunEvent(event_id=str(number), run_id="run", sequence=number)
    if final:
        made.complete.SetInParent()
    else:
        made.token.deltas.add(kind=TokenKind.TOKEN_KIND_TEXT, text=text)
    return made.SerializeToString()


def numbers(events: Sequence[bytes]) -> list[int]:
    return [RunEvent.FromString(one).sequence for one in events]


@pytest.fixture
def key(unique: Callable[[str], str]) -> LogKey:
    """A log of its own."""
    return LogKey("tenant.1 ä", unique("run"))


async def follow(log: EventLog, key: LogKey, after: int = 0) -> list[int]:
    return numbers([one async for one in log.tail(key, after)])


async def write(log: EventLog, key: LogKey, last: int, fence: int = 0, first: int = 1) -> int:
    for number in range(first, last + 1):
        fence = await log.append(key, [event(number)], fence=fence)
    return fence


async def test_what_was_appended_is_read_back(event_log: EventLog, key: LogKey) -> None:
    fence = await event_log.append(key, [event(1), event(2)], fence=0)
    await event_log.append(key, [event(3, final=True)], fence=fence)
    assert numbers(await event_log.read(key)) == [1, 2, 3]
    assert numbers(await event_log.read(key, after=1)) == [2, 3]
    assert await event_log.head(key) == 3
    assert await event_log.runs(key.tenant_id) == [key]


async def test_a_log_that_never_was_is_absent(event_log: EventLog, key: LogKey) -> None:
    assert (await event_log.read(key), await event_log.head(key), await event_log.exists(key)) == ([], None, False)


async def test_a_takeover_reads_everything_and_fences_the_old_owner(event_log: EventLog, key: LogKey) -> None:
    old = await write(event_log, key, 5)
    events, new = await event_log.take_over(key, "second")
    assert numbers(events) == [1, 2, 3, 4, 5]
    with pytest.raises(Fenced):
        await event_log.append(key, [event(6, "zombie")], fence=old)
    await event_log.append(key, [event(6, final=True)], fence=new)
    assert numbers(await event_log.read(key)) == [1, 2, 3, 4, 5, 6]


async def test_a_log_can_be_taken_over_before_it_begins(event_log: EventLog, key: LogKey) -> None:
    events, fence = await event_log.take_over(key, "first")
    assert events == []
    with pytest.raises(Fenced):
        await event_log.append(key, [event(1)], fence=0)
    assert await event_log.append(key, [event(1)], fence=fence) > fence


async def test_of_many_that_take_over_at_once_the_last_one_owns(event_log: EventLog, key: LogKey) -> None:
    await write(event_log, key, 3)
    taken = await asyncio.gather(*(event_log.take_over(key, str(n)) for n in range(8)))
    assert all(numbers(events) == [1, 2, 3] for events, _ in taken)
    outcomes = []
    for fence in sorted(fence for _, fence in taken):
        try:
            await event_log.append(key, [event(4, str(fence))], fence=fence)
            outcomes.append(True)
        except Fenced:
            outcomes.append(False)
    assert outcomes == [False] * 7 + [True]


async def test_a_takeover_wins_against_an_owner_that_keeps_writing(event_log: EventLog, key: LogKey) -> None:
    written: list[int] = []

    async def owner() -> None:
        fence = 0
        for number in itertools.count(1):
            fence = await event_log.append(key, [event(number)], fence=fence)
            written.append(number)

    writing = asyncio.create_task(owner())
    await until(lambda: len(written) >= 20)
    events, _ = await event_log.take_over(key, "second")
    with pytest.raises(Fenced):
        await writing
    assert numbers(events) == written


async def test_an_append_tried_again_is_found_and_not_doubled(event_log: EventLog, key: LogKey) -> None:
    first = await event_log.append(key, [event(1)], fence=0)
    assert await event_log.append(key, [event(1)], fence=0) == first
    assert numbers(await event_log.read(key)) == [1]


class LosesAcknowledgements:
    """A bus whose appends are stored, or not, and never acknowledged."""

    def __init__(self, bus: Bus, *, stores: bool) -> None:
        self._bus = bus
        self._stores = stores
        self.losses = 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def append(self, *args: Any, **kwargs: Any) -> tuple[int, bool]:
        if self.losses == 0:
            return await self._bus.append(*args, **kwargs)
        self.losses -= 1
        if self._stores:
            await self._bus.append(*args, **kwargs)
        lost = PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "lost", dependency="nats")
        raise lost from TimeoutError()


@pytest.mark.parametrize("stores", [True, False])
async def test_a_lost_acknowledgement_is_looked_up(
    event_log: EventLog, bus: Bus, keyring: Keyring, key: LogKey, stores: bool
) -> None:
    losing: Any = LosesAcknowledgements(bus, stores=stores)
    flaky = EventLog(losing, keyring)
    fence = await flaky.append(key, [event(1)], fence=0)
    losing.losses = 3
    await flaky.append(key, [event(2, final=True)], fence=fence)
    assert numbers(await event_log.read(key)) == [1, 2]


async def test_a_lost_acknowledgement_does_not_hide_a_fence(
    event_log: EventLog, bus: Bus, keyring: Keyring, key: LogKey
) -> None:
    fence = await write(event_log, key, 1)
    await event_log.take_over(key, "second")
    losing: Any = LosesAcknowledgements(bus, stores=False)
    with pytest.raises(Fenced):
        await EventLog(losing, keyring).append(key, [event(2)], fence=fence)


@pytest.mark.req("FR-007")
async def test_tails_see_every_event_once_in_order_from_any_cursor(event_log: EventLog, key: LogKey) -> None:
    fence = await write(event_log, key, 10)
    readers = [asyncio.create_task(follow(event_log, key, after)) for after in (0, 3, 10) for _ in range(3)]
    fence = await write(event_log, key, 60, fence, 11)
    _, fence = await event_log.take_over(key, "second")
    await event_log.append(key, [event(61), event(62, final=True)], fence=fence)
    for number, reader in enumerate(readers):
        after = (0, 3, 10)[number // 3]
        assert await reader == list(range(after + 1, 63))


async def test_a_tail_may_begin_before_the_log(event_log: EventLog, key: LogKey) -> None:
    reader = asyncio.create_task(follow(event_log, key))
    await asyncio.sleep(0)
    fence = await write(event_log, key, 3)
    await event_log.append(key, [event(4, final=True)], fence=fence)
    assert await reader == [1, 2, 3, 4]


async def test_a_refused_append_is_never_seen_by_a_tail(event_log: EventLog, key: LogKey) -> None:
    old = await write(event_log, key, 2)
    _, new = await event_log.take_over(key, "second")
    seen: list[bytes] = []

    async def read() -> None:
        async for one in event_log.tail(key):
            seen.append(one)

    reader = asyncio.create_task(read())
    for _ in range(5):
        with pytest.raises(Fenced):
            await event_log.append(key, [event(3, "zombie")], fence=old)
    await event_log.append(key, [event(3, "owner"), event(4, final=True)], fence=new)
    await reader
    assert numbers(seen) == [1, 2, 3, 4]
    assert not any(b"zombie" in one for one in seen)


async def test_what_a_tail_misses_is_read_from_the_log(
    event_log: EventLog, key: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second republished message is lost, as core NATS may; the silence at the end is noticed too."""
    monkeypatch.setattr(tail, "_SILENCE_S", 0.05)
    passed = tail._Reader.put
    count = itertools.count()

    def lossy(self: Any, message: Stored) -> None:
        if next(count) % 2:
            passed(self, message)

    monkeypatch.setattr(tail._Reader, "put", lossy)
    reader = asyncio.create_task(follow(event_log, key))
    fence = await write(event_log, key, 40)
    await event_log.append(key, [event(41, final=True)], fence=fence)
    assert await reader == list(range(1, 42))


async def test_a_slow_reader_loses_nothing(event_log: EventLog, key: LogKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_QUEUED", 4)
    seen = []
    stream = event_log.tail(key)
    fence = await write(event_log, key, 1)
    seen.append(await anext(stream))
    fence = await write(event_log, key, 50, fence, 2)
    await event_log.append(key, [event(51, final=True)], fence=fence)
    seen += [one async for one in stream]
    assert numbers(seen) == list(range(1, 52))


async def test_readers_of_one_run_share_a_subscription(event_log: EventLog, key: LogKey) -> None:
    await write(event_log, key, 1)
    streams = [event_log.tail(key) for _ in range(20)]
    for stream in streams:
        await anext(stream)
    assert len(event_log._tails._shared) == 1
    for stream in streams:
        await stream.aclose()
    assert event_log._tails._shared == {}


async def test_a_purged_log_is_gone_for_everybody(
    event_log: EventLog, key: LogKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_SILENCE_S", 0.05)
    await write(event_log, key, 3)
    stream = event_log.tail(key)
    for _ in range(3):
        await anext(stream)
    await event_log.purge(key)
    assert not await event_log.exists(key)
    with pytest.raises(PlatformError) as caught:
        await anext(stream)
    assert caught.value.reason is Reason.CURSOR_EXPIRED
    with pytest.raises(PlatformError):
        await follow(event_log, key, after=2)


@pytest.mark.req("PR-028", "PR-030")
async def test_what_lies_in_the_log_is_sealed_for_its_tenant_and_run(
    event_log: EventLog, bus: Bus, keyring: Keyring, key: LogKey
) -> None:
    await event_log.append(key, [event(1, "confidential")], fence=0)
    stored = await bus.last("FC_RUNS", key.subject(1))
    assert stored is not None
    assert b"confidential" not in stored.data
    assert stored.headers["Fc-Key"] == keyring.key_id
    stranger = EventLog(bus, Keyring([MasterKey.of(os.urandom(32))]))
    with pytest.raises(PlatformError) as caught:
        await stranger.read(key)
    assert caught.value.reason is Reason.STORAGE_UNAVAILABLE


async def test_groups_must_be_numbered_without_gaps(event_log: EventLog, key: LogKey) -> None:
    with pytest.raises(ValueError, match="without gaps"):
        await event_log.append(key, [event(1), event(3)], fence=0)


async def test_a_run_that_is_too_long_can_still_end(tmp_path: Path, keyring: Keyring, key: LogKey) -> None:
    with nats_server(tmp_path) as server:
        bus = await Bus.connect(BusConfig(url=server.url, max_events_per_run=100))
        log = await EventLog(bus, keyring).open()
        fence = await log.append(key, [event(n) for n in range(1, 101)], fence=0)
        with pytest.raises(RunLogFull):
            await log.append(key, [event(101)], fence=fence)
        await log.append(key, [event(101, final=True)], fence=fence)
        assert await log.head(key) == 101
        await bus.close()


async def test_an_event_too_large_for_the_bus_is_said_so(event_log: EventLog, bus: Bus, key: LogKey) -> None:
    with pytest.raises(PlatformError) as caught:
        await event_log.append(key, [event(1, "x" * (bus.max_payload + 1))], fence=0)
    assert caught.value.reason is Reason.PAYLOAD_TOO_LARGE


async def test_logs_are_spread_over_shards(tmp_path: Path, keyring: Keyring) -> None:
    with nats_server(tmp_path) as server:
        bus = await Bus.connect(BusConfig(url=server.url, run_shards=3))
        log = await EventLog(bus, keyring).open()
        keys = [LogKey("t", f"run-{n}") for n in range(12)]
        for key in keys:
            await log.append(key, [event(1), event(2, final=True)], fence=0)
            assert await follow(log, key) == [1, 2]
        assert sorted(found.run_id for found in await log.runs("t")) == sorted(key.run_id for key in keys)
        assert len({key.stream(3) for key in keys}) == 3
        await bus.close()


async def test_a_server_killed_and_started_again_has_every_acknowledged_event(tmp_path: Path, keyring: Keyring) -> None:
    with nats_server(tmp_path) as server:
        bus = await Bus.connect(BusConfig(url=server.url, request_timeout_s=0.3))
        log = await EventLog(bus, keyring).open()
        key = LogKey("t", "run")
        fence = await write(log, key, 30)
        server.kill()
        with pytest.raises(PlatformError) as caught:
            await log.append(key, [event(31)], fence=fence)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        server.start()
        await until(lambda: bus.connected)
        fence = await log.append(key, [event(31)], fence=fence)
        await log.append(key, [event(32, final=True)], fence=fence)
        assert await follow(log, key) == list(range(1, 33))
        await bus.close()
