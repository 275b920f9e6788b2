"""The process's own HTTP port for operators: `/metrics` and `/health`. A few lines of asyncio: no framework."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from kit.config import ConfigError
from kit.telemetry import metrics

_REQUEST_BYTES = 8192
_REQUEST_S = 5.0
HealthReport = Callable[[], tuple[bool, object]]
"""Whether the process is ready, and what to say about it (JSON)."""


@asynccontextmanager
async def serve_metrics(host: str, port: int, health: HealthReport) -> AsyncIterator[str]:
    """Serve on host:port (0: any free one); yields "host:port". ConfigError when the address cannot be taken."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await _answer(head, health)
                writer.write(_response(status, kind, body))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a scraper that went away or is none
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(handle, host, port, limit=_REQUEST_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error
    async with server:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"


async def _answer(head: bytes, health: HealthReport) -> tuple[HTTPStatus, str, bytes]:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"GET only\n"
    if path == b"/metrics":
        # formatting takes milliseconds; a thread keeps them from the streams
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, await asyncio.to_thread(metrics.exposition)
    if path == b"/health":
        ready, report = health()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", orjson.dumps(report)
    return HTTPStatus.NOT_FOUND, "text/plain", b"/metrics or /health\n"


def _response(status: HTTPStatus, kind: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
