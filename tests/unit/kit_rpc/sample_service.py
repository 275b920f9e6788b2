"""A service with HTTP and background work, run as a process of its own by test_process.py."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import Field

from kit.config import Section, load
from kit.health import Health
from kit.hosting import Hosting
from kit.mesh import Mesh, Service
from kit.process import SECTIONS, run


class SampleConfig(Section):
    """Section `edge` of this process."""

    bind: str = "127.0.0.1:0"
    """Where HTTP is served."""
    ticks: int = Field(default=3, ge=0)
    """Lines of a stream, 0.1 s apart."""
    slow_start: bool = False
    """Never finish building."""


def app(config: SampleConfig) -> Any:
    """An ASGI app that streams lines."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for tick in range(config.ticks):
            await send({"type": "http.response.body", "body": b"%d\n" % tick, "more_body": True})
            await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"end\n"})

    return answer


@asynccontextmanager
async def build(config: SampleConfig, mesh: Mesh) -> AsyncIterator[Service]:
    """The service; tells when it is closed."""
    if config.slow_start:
        say("building")
        await asyncio.Event().wait()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            say("background cancelled")

    yield Service(name="edge", health=Health(), background=[forever], http=app(config), http_bind=config.bind)
    say("store closed")


def say(text: str) -> None:
    """One line to the test."""
    print(text, flush=True)


def ready(hosting: Hosting) -> None:
    """The ready line."""
    (hosted,) = hosting.hosted
    assert hosted.http is not None
    say(f"ready {hosted.http.address} {hosted.server.address}")


if __name__ == "__main__":
    loaded = load(None, os.environ, {**SECTIONS, "edge": SampleConfig})
    sys.exit(run({"edge": build}, loaded, ready=ready))
