"""Waiting on conditions."""

import asyncio
from collections.abc import Callable

_LIMIT_S = 20.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; TimeoutError when it never does."""
    async with asyncio.timeout(_LIMIT_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to offer
            await asyncio.sleep(0.01)
