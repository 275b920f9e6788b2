"""The services of one process, built in order and drained in the opposite one."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from pydantic import BaseModel

from kit.http import RunningHttp, serve_http
from kit.mesh import Build, Mesh, Service
from kit.server import RunningServer, serve
from kit.tasks import Tasks
from kit.telemetry import get_logger

log = get_logger(__name__)

# What a later service gets at least, when an earlier one used up the time to drain.
_LEAST_S = 1.0
# What HTTP responses get beyond that, to tell their clients a proper end once what they wait for was ended.
_PROPER_END_S = 1.0


@dataclass
class Hosted:
    """A service that runs here, with where it answers."""

    service: Service
    server: RunningServer
    tasks: Tasks
    http: RunningHttp | None = None
    public: RunningServer | None = None

    async def drain(self, seconds: float) -> None:
        """Refuse new work and finish what runs within `seconds`; then end the background tasks."""
        if self.service.admission is not None:
            self.service.admission.draining = True
        ends = [self.server.drain(seconds)]
        if self.public is not None:
            ends.append(self.public.drain(seconds))
        if self.http is not None:
            ends.append(self.http.drain(seconds + _PROPER_END_S))
        results = await asyncio.gather(*ends, self._drain_service(seconds), return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                log.error("drain failed", owner=self.service.name, exc_info=result)
        await self.tasks.cancel()

    async def _drain_service(self, seconds: float) -> None:
        if self.service.drain is not None:
            try:
                async with asyncio.timeout(max(seconds, _LEAST_S) + _LEAST_S):
                    await self.service.drain(seconds)
            except TimeoutError:
                log.warning("drain took longer than allowed", owner=self.service.name)


@dataclass
class Hosting:
    """Everything that runs in this process. Leave its stack to close what is open."""

    mesh: Mesh
    stack: AsyncExitStack
    expected: int = 1
    """How many services will run here: before the last one is up, the process is not ready."""
    hosted: list[Hosted] = field(default_factory=list)

    async def host(self, name: str, build: Build) -> Hosted:
        """Build a service, serve it and start its background tasks."""
        config = self.mesh.config.section(name, BaseModel)  # the model that the configuration was loaded with
        service = await self.stack.enter_async_context(build(config, self.mesh))
        settings = self.mesh.settings
        admission = service.admission
        server = await self.stack.enter_async_context(
            serve(service, self.mesh, settings.bind_of(name), settings.server, admission=admission)
        )
        self._remember(name, server.address)
        tasks = Tasks(name)
        self.stack.push_async_callback(tasks.cancel)
        hosted = Hosted(service, server, tasks)
        if service.public is not None:
            port = service.public
            hosted.public = await self.stack.enter_async_context(
                serve(port, self.mesh, port.bind, settings.server, admission=admission, authenticate=port.authenticate)
            )
        if service.http is not None:
            hosted.http = await self.stack.enter_async_context(serve_http(service.http, service.http_bind))
        tasks.start(service.background)
        self.hosted.append(hosted)
        log.info("serving", owner=name, grpc=server.address, http=hosted.http.address if hosted.http else None)
        return hosted

    async def ready(self) -> None:
        """Wait until every service says that it is ready."""
        changed = asyncio.Event()
        for hosted in self.hosted:
            hosted.service.health.on_change(changed.set)
        while not all(hosted.service.health.ready for hosted in self.hosted):
            await changed.wait()
            changed.clear()

    async def drain(self, seconds: float) -> None:
        """Drain the last built first: what serves readers before what answers it.

        After `seconds` every gRPC call that still runs here is ended with DRAINING, so that readers hear a proper end.
        """
        until = time.monotonic() + seconds
        for hosted in self.hosted:
            hosted.service.health.drain()
        late = asyncio.get_running_loop().call_later(seconds, self._end_calls)
        try:
            for hosted in reversed(self.hosted):
                left = until - time.monotonic()
                await hosted.drain(max(left, min(_LEAST_S, seconds)))
        finally:
            late.cancel()

    def _end_calls(self) -> None:
        for hosted in self.hosted:
            hosted.server.end_all()

    def report(self) -> tuple[bool, Mapping[str, object]]:
        """Whether all are ready, and each one's dependencies: what is degraded, what still works."""
        services = {
            hosted.service.name: {
                "ready": hosted.service.health.ready,
                "dependencies": [
                    {"name": state.name, "ok": state.ok, "detail": state.detail, "impact": state.impact}
                    for state in hosted.service.health.snapshot()
                ],
            }
            for hosted in self.hosted
        }
        up = len(self.hosted) >= self.expected
        ready = up and all(hosted.service.health.ready for hosted in self.hosted)
        return ready, {"status": "ok" if ready else "unavailable", "services": services}

    def _remember(self, name: str, address: str) -> None:
        """Tell the services built next where this one is, when nobody told an address that others dial."""
        addresses = self.mesh.addresses
        if isinstance(addresses, dict) and (name not in addresses or addresses[name].endswith(":0")):
            addresses[name] = address
