"""An ASGI app on a socket: uvicorn inside our loop, stopped by us and not by signals."""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from kit.config import ConfigError

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
_START_S = 30.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's business."""
        yield


class RunningHttp:
    """A server that answers at `address` ("host:port") until it is drained."""

    def __init__(self, server: _Server, task: "asyncio.Task[None]", address: str) -> None:
        self.address = address
        self._server = server
        self._task = task

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, give running responses up to `seconds` (rounded up), then cancel them."""
        self._server.config.timeout_graceful_shutdown = math.ceil(seconds)
        self._server.should_exit = True
        await asyncio.shield(self._task)

    async def close(self) -> None:
        """Stop at once."""
        self._server.force_exit = self._server.should_exit = True
        await self._task


@asynccontextmanager
async def serve_http(app: Any, bind: str) -> AsyncIterator[RunningHttp]:
    """Serve on "host:port" (port 0: any free one). ConfigError when the address cannot be taken."""
    listener = listen(bind)
    logging.getLogger("uvicorn.error").addFilter(_not_cancelled)
    config = uvicorn.Config(
        app,
        loop="none",
        lifespan="off",  # opening and closing is the service's `build`
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=_BACKLOG,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http on {bind}")
    running = RunningHttp(server, task, address_of(listener))
    try:
        async with asyncio.timeout(_START_S):
            await server.up.wait()
        yield running
    finally:
        await running.close()


def _not_cancelled(record: logging.LogRecord) -> bool:
    """Drops the traceback that uvicorn logs of a response that it cancelled itself."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def listen(bind: str) -> socket.socket:
    """A listening socket. ConfigError says why there is none (in use, no permission, no such address)."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except (OSError, ValueError) as error:
        sock.close()
        raise ConfigError(f"cannot listen on {bind}: {getattr(error, 'strerror', None) or error}") from error
    return sock


def address_of(sock: socket.socket) -> str:
    """ "host:port" of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
