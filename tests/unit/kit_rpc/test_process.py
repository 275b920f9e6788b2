"""A process starts with one line, drains on a signal, and never shows a traceback."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kit.http import listen

pytestmark = pytest.mark.req("PR-035")


@pytest.fixture
def env(tmp_path: Path, nats_url: str) -> dict[str, str]:
    """What the process is told."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FASTCHAT_HOME": str(tmp_path),
        "FASTCHAT_BUS__URL": nats_url,
        "FASTCHAT_MESH__DRAIN_S": "20",
    }


@asynccontextmanager
async def process(env: dict[str, str]) -> AsyncIterator[Process]:
    """The sample service; killed if it outlives the test."""
    command = [sys.executable, "-m", "tests.unit.kit_rpc.sample_service"]
    found = await asyncio.create_subprocess_exec(*command, env=env, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(40):
            yield found
    finally:
        if found.returncode is None:
            found.kill()
        await found.communicate()


async def line(found: Process) -> str:
    assert found.stdout is not None
    return (await found.stdout.readline()).decode().strip()


async def ended(found: Process) -> tuple[int | None, str, str]:
    """Exit code, what it still said, and its standard error."""
    out, err = await found.communicate()
    return found.returncode, out.decode(), err.decode()


async def refusing(http: str) -> None:
    """Wait until nobody accepts connections there."""
    host, _, port = http.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionError:
            return
        writer.close()


async def test_running_stream_ends_properly_before_the_process_does(env: dict[str, str]) -> None:
    async with process({**env, "FASTCHAT_EDGE__TICKS": "8"}) as found:
        _, http, _ = (await line(found)).split()
        async with httpx.AsyncClient() as client, client.stream("GET", f"http://{http}/") as answer:
            lines: Any = answer.aiter_lines()
            assert await anext(lines) == "0"
            found.send_signal(signal.SIGTERM)
            assert [text async for text in lines][-1] == "end"
        code, out, err = await ended(found)
    assert code == 0
    assert out.split("\n")[:2] == ["background cancelled", "store closed"]
    assert "Traceback" not in err


async def test_new_requests_are_refused_while_it_drains(env: dict[str, str]) -> None:
    async with process({**env, "FASTCHAT_EDGE__TICKS": "30"}) as found:
        _, http, _ = (await line(found)).split()
        async with httpx.AsyncClient() as client, client.stream("GET", f"http://{http}/") as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            found.send_signal(signal.SIGINT)
            await refusing(http)
            found.send_signal(signal.SIGINT)
        code, _, err = await ended(found)
    assert code == 1  # forced, since the second signal came before the stream's end
    assert "Traceback" not in err


async def test_stream_that_outlives_the_drain_is_cut(env: dict[str, str]) -> None:
    async with process({**env, "FASTCHAT_EDGE__TICKS": "100000", "FASTCHAT_MESH__DRAIN_S": "0.3"}) as found:
        _, http, _ = (await line(found)).split()
        async with httpx.AsyncClient() as client, client.stream("GET", f"http://{http}/") as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            found.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                async for _ in lines:
                    pass
        code, _, err = await ended(found)
    assert code == 0
    assert "Traceback" not in err


async def test_signal_while_it_starts_ends_it(env: dict[str, str]) -> None:
    async with process({**env, "FASTCHAT_EDGE__SLOW_START": "true"}) as found:
        assert await line(found) == "building"
        found.send_signal(signal.SIGTERM)
        code, _, err = await ended(found)
    assert (code, "Traceback" in err) == (0, False)


@pytest.mark.parametrize("setting", ["FASTCHAT_EDGE__BIND", "FASTCHAT_MESH__BIND__EDGE"])
async def test_port_in_use_is_one_line(env: dict[str, str], setting: str) -> None:
    with listen("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with process({**env, setting: address}) as found:
            code, _, err = await ended(found)
    assert code == 2
    assert f"fastchat: cannot listen on {address}: Address already in use" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"FASTCHAT_BUS__URL": ""}, 2, "bus.url is not set"),
        (
            {"FASTCHAT_BUS__URL": "nats://127.0.0.1:1", "FASTCHAT_BUS__CONNECT_TIMEOUT_S": "0.5"},
            1,
            "The message bus cannot be reached",
        ),
        ({"FASTCHAT_MESH__TLS__CA": "ca.pem"}, 2, "mutual TLS needs mesh.tls.cert, mesh.tls.key"),
        ({"FASTCHAT_MESH__BIND__EDGE": "dns:///edge:7001"}, 2, "can be dialled, not listened on"),
        ({"FASTCHAT_HOME": "/proc/nowhere"}, 1, "/proc/nowhere"),
    ],
    ids=["no bus", "bus away", "half of TLS", "dns bind", "no home"],
)
async def test_what_is_wrong_is_one_line(env: dict[str, str], changed: dict[str, str], code: int, said: str) -> None:
    async with process({**env, **changed}) as found:
        ended_with, _, err = await ended(found)
    (complaint,) = (text for text in err.splitlines() if text.startswith("fastchat: "))
    assert (ended_with, said in complaint, "Traceback" in err) == (code, True, False), err


def test_listen_says_why_not() -> None:
    with listen("127.0.0.1:0") as taken:
        assert taken.getsockname()[1] > 0
        assert taken.family == socket.AF_INET
