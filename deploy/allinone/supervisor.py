"""Starts the processes of the all-in-one, keeps them running, and ends them in order.

It imports no service and holds no state but process ids, so that there is
nothing in it to crash. What crashes below it comes back with a growing delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deploy.allinone import children

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Exit codes: as kit.process has them.
EXIT_FAILED, EXIT_CONFIG = 1, 2
# How often readiness is asked for while things start.
POLL_S = 0.1
# What a killed process may take to be gone.
KILL_TIMEOUT_S = 10.0


class Part(Protocol):
    """Something that runs in processes of its own below the supervisor."""

    name: str

    def launch(self) -> None:
        """Start the process without waiting for it."""

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""


@dataclass
class Child:
    """A part that is one command."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def launch(self) -> None:
        """Start the command; its output goes where the supervisor's goes."""
        self._process = children.spawn(self.command, env=self.env)

    def exit_code(self) -> int | None:
        """Exit code; None while it runs; 0 before it ever ran."""
        return self._process.poll() if self._process else 0

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group."""
        if self._process is not None and self._process.poll() is None:
            children.send(self._process, number)


@dataclass(frozen=True)
class Limits:
    """When to wait, and for how long."""

    start_timeout_s: float = 60.0
    first_attempts: int = 3
    """How often a part is started before everything was ready once."""
    stop_timeout_s: float = 60.0
    restart_first_s: float = 0.2
    restart_most_s: float = 10.0
    stable_after_s: float = 30.0


@dataclass
class _Kept:
    """A part and its history."""

    part: Part
    started: float = 0.0
    failures: int = 0
    due: float | None = None  # when to start it again


class Supervisor:
    """``waves`` are started all at once and stopped one wave after the other, the first first."""

    def __init__(self, waves: Sequence[Sequence[Part]], limits: Limits, tell: Callable[[str], None]) -> None:
        self._waves = [[_Kept(part) for part in wave] for wave in waves]
        self._limits = limits
        self._tell = tell
        self._wake = asyncio.Event()
        self._stops = 0
        self._ready = False

    async def run(self, ready: Callable[[], Awaitable[bool]], on_ready: Callable[[], None]) -> int:
        """Start everything, call ``on_ready`` once ``ready`` holds, keep it running until a stop signal.

        Returns 0 after a stop, else the exit code of the part that could not be started.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        waiting = asyncio.create_task(self._until_ready(ready, on_ready))
        waiting.add_done_callback(lambda _: self._wake.set())
        try:
            for kept in self._all():
                self._launch(kept)
            return await self._keep(waiting)
        finally:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await waiting
            await self._end()

    def _all(self) -> list[_Kept]:
        # The last wave is what the others stand on: started first, stopped last.
        return [kept for wave in reversed(self._waves) for kept in wave]

    def _stop(self) -> None:
        self._stops += 1
        self._wake.set()

    def _launch(self, kept: _Kept) -> None:
        kept.started, kept.due = time.monotonic(), None
        kept.part.launch()

    async def _keep(self, waiting: asyncio.Task[None]) -> int:
        while not self._stops:
            self._wake.clear()
            if waiting.done() and waiting.exception() is not None:
                self._tell(str(waiting.exception()))
                return EXIT_FAILED
            for kept in self._all():
                code = self._look_after(kept)
                if code is not None:
                    return code
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._next_due())
        return 0

    def _look_after(self, kept: _Kept) -> int | None:
        """Restart the part when its time has come; returns an exit code when nothing more can be done."""
        now = time.monotonic()
        if kept.due is not None:
            if now >= kept.due:
                self._tell(f"starting {kept.part.name} again")
                self._launch(kept)
            return None
        code = kept.part.exit_code()
        if code is None:
            return None
        if not self._ready and (code == EXIT_CONFIG or kept.failures >= self._limits.first_attempts - 1):
            # Misconfigured, or something that it needs is not there: its own words are on the screen.
            self._tell(f"{kept.part.name} did not start ({_ended(code)})")
            return code if code > 0 else EXIT_FAILED
        stable = now - kept.started > self._limits.stable_after_s
        kept.failures = 0 if stable else kept.failures + 1
        delay = min(self._limits.restart_most_s, self._limits.restart_first_s * 2**kept.failures)
        kept.due = now + delay
        self._tell(f"{kept.part.name} ended ({_ended(code)}); starting it again in {delay:.1f} s")
        return None

    def _next_due(self) -> float | None:
        times = [kept.due for kept in self._all() if kept.due is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    async def _until_ready(self, ready: Callable[[], Awaitable[bool]], on_ready: Callable[[], None]) -> None:
        deadline = time.monotonic() + self._limits.start_timeout_s
        while not await ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready after {self._limits.start_timeout_s:.0f} s: {ready}")
            await asyncio.sleep(POLL_S)
        self._ready = True
        on_ready()

    async def _end(self) -> None:
        """Stop wave by wave; a second stop signal kills what is left."""
        for wave in self._waves:
            for kept in wave:
                kept.part.send_signal(signal.SIGTERM)
            await self._gone(wave, self._limits.stop_timeout_s)
            for kept in wave:
                if kept.part.exit_code() is None:
                    kept.part.send_signal(signal.SIGKILL)
            await self._gone(wave, KILL_TIMEOUT_S)

    async def _gone(self, wave: Sequence[_Kept], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while any(kept.part.exit_code() is None for kept in wave):
            left = deadline - time.monotonic()
            if left <= 0 or self._stops > 1:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(left, 1.0))


def _ended(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def say(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"fastchat: {text}\n")
    sys.stderr.flush()
