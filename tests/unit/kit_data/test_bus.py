"""The bus: what it does when NATS is there, and what it says when it is not."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.allinone.nats import free_port
from kit.bus import Bus, BusConfig, LimitReached, StreamSpec, WrongSequence, token
from kit.config import ConfigError
from kit.errors import PlatformError, Reason
from tests.support.nats import nats_server
from tests.unit.kit_data.waiting import until

Unique = Callable[[str], str]


@pytest.fixture
async def stream(bus: Bus, unique: Unique) -> StreamSpec:
    """A stream of its own, three messages a subject at most, republished under another subject."""
    name = unique("s")
    spec = StreamSpec(name, [f"{name}.>"], max_per_subject=3, republish_from=f"{name}.>", republish_to=f"tail.{name}.>")
    await bus.ensure_stream(spec)
    return spec


def subject(stream: StreamSpec, rest: str = "a") -> str:
    return f"{stream.name}.{rest}"


async def test_a_message_reaches_those_who_listen(bus: Bus, unique: Unique) -> None:
    name, heard = unique("subject"), []
    stop = await bus.subscribe(name, lambda data: heard.append(data))
    await bus.publish(name, b"1")
    await until(lambda: heard == [b"1"])
    await stop()
    await bus.publish(name, b"2")
    await bus.ping()
    assert heard == [b"1"]


async def test_a_question_is_answered_by_all_who_know(bus: Bus, unique: Unique) -> None:
    name = unique("question")
    assert await bus.request_many(name, b"?", timeout_s=5) == []  # at once: nobody listens

    async def later(data: bytes) -> bytes:
        return data + b"2"

    stops = [await bus.subscribe(name, handler) for handler in (lambda data: data + b"1", later, lambda _: None)]
    assert sorted(await bus.request_many(name, b"?", timeout_s=5, at_most=2)) == [b"?1", b"?2"]
    for stop in stops:
        await stop()


async def test_a_handler_that_fails_goes_on_hearing(bus: Bus, unique: Unique) -> None:
    name, heard = unique("subject"), []

    def handler(data: bytes) -> None:
        heard.append(data)
        raise ValueError(data)

    await bus.subscribe(name, handler)
    await bus.publish(name, b"1")
    await bus.publish(name, b"2")
    await until(lambda: len(heard) == 2)


async def test_an_append_is_fenced_by_the_last_sequence_of_its_subject(bus: Bus, stream: StreamSpec) -> None:
    first, _ = await bus.append(subject(stream), b"1", expected_last_subject_seq=0)
    await bus.append(subject(stream, "other"), b"x", expected_last_subject_seq=0)
    with pytest.raises(WrongSequence):
        await bus.append(subject(stream), b"2", expected_last_subject_seq=0)
    second, _ = await bus.append(subject(stream), b"2", expected_last_subject_seq=first)
    assert [stored.data for stored in await bus.read_range(stream.name, subject(stream))] == [b"1", b"2"]
    last = await bus.last(stream.name, subject(stream))
    assert last is not None
    assert (last.sequence, last.data, last.subject) == (second, b"2", subject(stream))
    assert last.time is not None


async def test_a_subject_takes_as_many_messages_as_it_may(bus: Bus, stream: StreamSpec) -> None:
    for _ in range(3):
        await bus.append(subject(stream), b"x")
    with pytest.raises(LimitReached):
        await bus.append(subject(stream), b"x")
    await bus.append(subject(stream, "other"), b"x")


async def test_a_message_id_is_stored_once(bus: Bus, stream: StreamSpec) -> None:
    first = await bus.append(subject(stream), b"x", message_id="m")
    again = await bus.append(subject(stream), b"x", message_id="m")
    assert (first[1], again) == (False, (first[0], True))


async def test_what_is_refused_is_not_republished(bus: Bus, stream: StreamSpec) -> None:
    heard = []
    stop = await bus.listen(f"tail.{stream.name}.>", heard.append)
    sequence, _ = await bus.append(subject(stream), b"1", headers={"Fc-X": "y"})
    with pytest.raises(WrongSequence):
        await bus.append(subject(stream), b"refused", expected_last_subject_seq=0)
    await bus.append(subject(stream), b"2")
    await until(lambda: len(heard) == 2)
    assert [(one.data, one.subject) for one in heard] == [(b"1", subject(stream)), (b"2", subject(stream))]
    assert (heard[0].sequence, heard[0].headers["Fc-X"]) == (sequence, "y")
    await stop()


async def test_a_range_is_read_whole_however_long_it_is(bus: Bus, unique: Unique) -> None:
    name = unique("long")
    await bus.ensure_stream(StreamSpec(name, [f"{name}.>"]))
    made = [(await bus.append(f"{name}.{n % 2}", b"%d" % n))[0] for n in range(1300)]
    odd = await bus.read_range(name, f"{name}.1")
    assert [int(stored.data) for stored in odd] == list(range(1, 1300, 2))
    part = await bus.read_range(name, f"{name}.*", after=made[9], up_to=made[19])
    assert [int(stored.data) for stored in part] == list(range(10, 20))
    assert len(await bus.read_range(name, f"{name}.*", at_most=7)) == 7
    assert await bus.read_range(name, f"{name}.none") == []
    assert await bus.counts(name) == {f"{name}.0": 650, f"{name}.1": 650}


async def test_messages_are_removed_one_by_one_and_by_subject(bus: Bus, stream: StreamSpec) -> None:
    sequence, _ = await bus.append(subject(stream), b"1")
    await bus.append(subject(stream), b"2")
    assert await bus.remove(stream.name, sequence)
    assert not await bus.remove(stream.name, sequence)
    assert await bus.get(stream.name, sequence) is None
    await bus.purge(stream.name, subject(stream))
    assert await bus.last(stream.name, subject(stream)) is None


async def test_a_bucket_is_changed_by_whoever_knows_the_revision(bus: Bus, unique: Unique) -> None:
    bucket = await bus.bucket(unique("b"))
    assert await bucket.get("key/ä") is None
    revision = await bucket.create("key/ä", b"1")
    assert await bucket.create("key/ä", b"2") is None
    assert await bucket.get("key/ä") == (b"1", revision)
    assert await bucket.update("key/ä", b"2", revision or 0) is not None
    assert await bucket.update("key/ä", b"3", revision or 0) is None
    assert len(await bucket.keys()) == 1
    await bucket.delete("key/ä")
    assert (await bucket.get("key/ä"), await bucket.keys()) == (None, [])


def test_texts_become_tokens_without_meeting() -> None:
    texts = ["", "a", "a.b", "a b", "a*", "a>", "ä", "=", "a=2Eb", "run-1_X"]
    tokens = [token(text) for text in texts]
    assert len(set(tokens)) == len(texts)
    assert token("run-1_X") == "run-1_X"
    assert not any(sign in one for one in tokens for sign in ". *>")


async def test_a_server_that_is_not_there_is_said_so_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(PlatformError) as caught:
        await Bus.connect(BusConfig(url=f"nats://127.0.0.1:{free_port()}", connect_timeout_s=0.5))
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert caught.value.metadata == {"dependency": "nats"}
    assert time.monotonic() - began < 3


async def test_a_bus_without_an_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"bus\.url is not set"):
        await Bus.connect(BusConfig())


async def test_nothing_hangs_while_the_server_is_away_and_all_goes_on_after(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        bus = await Bus.connect(BusConfig(url=server.url, request_timeout_s=0.3))
        await bus.ensure_stream(StreamSpec("S", ["s.>"]))
        heard: list[bytes] = []
        reconnected = asyncio.Event()
        bus.on_reconnect(reconnected.set)
        await bus.subscribe("core", heard.append)
        server.kill()
        await until(lambda: not bus.connected)
        for attempt in (
            bus.ping(),
            bus.publish("core", b""),
            bus.append("s.a", b""),
            bus.last("S", "s.a"),
            bus.read_range("S", "s.a"),
            bus.request_many("core", b"", timeout_s=1),
        ):
            began = time.monotonic()
            with pytest.raises(PlatformError) as caught:
                await attempt
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
            assert time.monotonic() - began < 2
        server.start()
        async with asyncio.timeout(20):
            await reconnected.wait()
        await bus.append("s.a", b"1")
        await bus.publish("core", b"2")
        await until(lambda: heard == [b"2"])
        await bus.close()


async def test_a_wait_for_a_server_that_comes_back_in_time_succeeds(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        bus = await Bus.connect(BusConfig(url=server.url, request_timeout_s=20))
        await bus.ensure_stream(StreamSpec("S", ["s.>"]))
        server.kill()
        await until(lambda: not bus.connected)
        waiting = asyncio.create_task(bus.append("s.a", b"1"))
        await asyncio.to_thread(server.start)
        assert (await waiting)[0] == 1
        await bus.close()
