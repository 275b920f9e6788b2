"""Background tasks with an owner: started together, restarted when they fail, cancelled together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kit.telemetry import get_logger

log = get_logger(__name__)

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 30.0

Sleep = Callable[[float], Awaitable[None]]
Factory = Callable[[], Awaitable[None]]


class Tasks:
    """Runs factories as tasks. One that fails is logged and started again after 0.5 s, doubled up to 30 s."""

    def __init__(self, owner: str, sleep: Sleep = asyncio.sleep) -> None:
        self._owner = owner
        self._sleep = sleep
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, factories: Sequence[Factory]) -> None:
        """Start each factory as a task."""
        for factory in factories:
            name = getattr(factory, "__qualname__", repr(factory))
            self._tasks.append(asyncio.create_task(self._keep(factory, name), name=f"{self._owner}: {name}"))

    async def cancel(self) -> None:
        """Cancel all and wait until they are gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, factory: Factory, name: str) -> None:
        delay = _FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await factory()
                return
            except Exception:  # the task must outlive whatever goes wrong in it
                log.exception("background task failed; starting it again", owner=self._owner, task=name)
            if loop.time() - began > _MAX_DELAY_S:
                delay = _FIRST_DELAY_S
            await self._sleep(delay)
            delay = min(delay * 2, _MAX_DELAY_S)
