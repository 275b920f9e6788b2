"""Background tasks come back after a failure and go when they are told to."""

import asyncio

import pytest

from kit.tasks import Tasks
from tests.unit.kit_rpc.scripted import until

pytestmark = pytest.mark.req("PR-033")


async def test_failed_task_starts_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def work() -> None:
        if len(pauses) < 8:
            raise RuntimeError("not yet")
        done.set()

    tasks = Tasks("test", sleep)
    tasks.start([work])
    async with asyncio.timeout(2):
        await done.wait()
    await tasks.cancel()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


async def test_cancel_waits_for_cleanup() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            seen.append("began")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    tasks = Tasks("test")
    tasks.start([work])
    await until(lambda: seen == ["began"])
    await tasks.cancel()
    assert seen == ["began", "cleaned up"]
