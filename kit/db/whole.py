"""Work that a cancellation does not cut: it is done to its end, and then the caller is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which ends even when this task is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


def uninterrupted(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Awaitable[T]]:
    """For short transactions: a caller that leaves costs no cancel request, and never leaves it open what was written.

    A statement that is cut costs PostgreSQL a connection of its own for the cancel request, and its own connection.
    """

    @wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await whole(method(*args, **kwargs))

    return run
