"""One process: configuration in, services up, signals heard, drained, exit code out."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from kit import telemetry
from kit.bus import Bus, BusConfig
from kit.config import ConfigError, Loaded, load
from kit.db.config import DatabaseConfig
from kit.errors import PlatformError
from kit.hosting import Hosting
from kit.mesh import Build, MeshConfig, open_mesh
from kit.telemetry import TelemetryConfig, get_logger, traces
from kit.telemetry.exposition import serve_metrics

log = get_logger(__name__)

EXIT_OK, EXIT_FAILED, EXIT_CONFIG = 0, 1, 2
SECTIONS: Mapping[str, type[BaseModel]] = {
    "mesh": MeshConfig,
    "bus": BusConfig,
    "database": DatabaseConfig,
    "telemetry": TelemetryConfig,
}
# Sections of one settings file that a service started alone leaves to the others.
_OTHERS = ("edge", "orchestrator", "knowledge", "memory", "integration", "control", "allinone")

T = TypeVar("T")
Ready = Callable[[Hosting], Awaitable[None] | None]
"""Called once, when every service of the process is ready."""


def main(services: Mapping[str, tuple[type[BaseModel], Build]]) -> int:
    """`python -m <service>`: load the configuration (FASTCHAT_CONFIG, environment) and run. Returns the exit code."""
    path = os.environ.get("FASTCHAT_CONFIG")
    sections: dict[str, Any] = dict.fromkeys(_OTHERS, dict[str, Any])
    sections |= {**SECTIONS, **{name: model for name, (model, _) in services.items()}}
    try:
        loaded = load(Path(path) if path else None, os.environ, sections)
    except ConfigError as error:
        return _complain(str(error), EXIT_CONFIG)
    return run({name: build for name, (_, build) in services.items()}, loaded)


def run(
    builders: Mapping[str, Build],
    loaded: Loaded,
    *,
    only: Iterable[str] | None = None,
    home: Path | None = None,
    ready: Ready | None = None,
) -> int:
    """Run the services (in the order of `builders`; `only` some of them) until a signal to stop.

    SIGTERM and SIGINT drain; a second one gives up on what still runs; a third ends the process. Returns 0 after a
    drain, 2 when the configuration is wrong (port in use included), 1 when something needed is not there or it was
    forced. Errors are one line on standard error, never a traceback.
    """
    wanted = set(builders if only is None else only)
    chosen = {name: build for name, build in builders.items() if name in wanted}
    home = home or Path(loaded.env.get("FASTCHAT_HOME") or ".fastchat").resolve()
    telemetry.setup(loaded.section("telemetry", TelemetryConfig), "+".join(chosen))
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_supervised(chosen, loaded, home, ready))
    except ConfigError as error:
        return _complain(str(error), EXIT_CONFIG)
    except PlatformError as error:
        return _complain(error.message, EXIT_FAILED)
    except OSError as error:
        return _complain(str(error), EXIT_FAILED)
    finally:
        traces.shutdown()


class _Signals:
    """Counts signals to stop: the first sets `stop`, the second `force`, the third ends the process."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.force = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        if self.force.is_set():
            os._exit(EXIT_FAILED)
        (self.force if self.stop.is_set() else self.stop).set()


async def _supervised(builders: Mapping[str, Build], loaded: Loaded, home: Path, ready: Ready | None) -> int:
    signals = _Signals()
    async with AsyncExitStack() as stack:
        started = await _unless(signals.stop, _start(stack, builders, loaded, home))
        if started is None:
            return EXIT_OK  # told to stop before anything served
        await _unless(signals.stop, _announce(started, ready))
        await signals.stop.wait()
        drain_s = started.mesh.settings.drain_s
        log.info("draining", seconds=drain_s)
        drained = await _unless(signals.force, _done(started.drain(drain_s)))
        if drained is None:
            log.warning("stopped before everything was drained")
        else:
            log.info("drained")
    return EXIT_OK if drained else EXIT_FAILED


async def _start(stack: AsyncExitStack, builders: Mapping[str, Build], loaded: Loaded, home: Path) -> Hosting:
    config = loaded.section("telemetry", TelemetryConfig)
    bus_config = loaded.section("bus", BusConfig)
    bus = await Bus.connect(bus_config, name="+".join(builders))
    stack.push_async_callback(bus.close)
    mesh = open_mesh(loaded, home, bus)
    stack.push_async_callback(mesh.close)
    hosting = Hosting(mesh, stack, expected=len(builders))
    if config.metrics_port:
        await stack.enter_async_context(serve_metrics(config.metrics_host, config.metrics_port, hosting.report))
    for name, build in builders.items():
        await hosting.host(name, build)
    return hosting


async def _announce(hosting: Hosting, ready: Ready | None) -> None:
    await hosting.ready()
    log.info("ready", services=[hosted.service.name for hosted in hosting.hosted])
    if ready is not None:
        told = ready(hosting)
        if told is not None:
            await told


async def _done(work: Awaitable[None]) -> bool:
    await work
    return True


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; when the event comes first, `work` is cancelled and the result is None."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return None
        return task.result()
    finally:
        waiter.cancel()
        task.cancel()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: asyncio's own loop does
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"fastchat: {text}\n")
    sys.stderr.flush()
    return code
