"""Answers that are being given over HTTP: a drain waits for them, and ends properly those that last too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from kit.errors import PlatformError, Reason


class Leavable(Protocol):
    """A run that somebody reads."""

    def leave(self, why: PlatformError | None = None) -> None:
        """Stop reading; the reader is told `why`."""
        ...


class Answers:
    """Who is being answered now."""

    def __init__(self) -> None:
        self._running: set[Leavable] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def running(self, source: Leavable) -> Iterator[None]:
        """Hold it around everything that waits for the run."""
        self._running.add(source)
        self._idle.clear()
        try:
            yield
        finally:
            self._running.discard(source)
            if not self._running:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Wait until all are given; after `seconds` tell the readers of the others that this edge stops (DRAINING).

        A durable run goes on without its reader, who can attach to it elsewhere; a plain one ends.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        for source in list(self._running):
            text = "The service is about to stop; another replica will answer."
            source.leave(PlatformError(Reason.DRAINING, text, retry_after_s=1.0))
