"""A real HTTP server on loopback around any ASGI application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.types import ASGIApp


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, over TCP."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            await _up(client)
            yield client
    finally:
        server.should_exit = True
        await task
        listening.close()


async def _up(client: httpx.AsyncClient) -> None:
    for _ in range(1000):
        try:
            reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        del reader
        writer.close()
        await writer.wait_closed()
        return
    raise TimeoutError("the server did not come up")
