"""Is everything up? Asked of each service's gRPC health, and of the edge's readiness over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 2.0


class Readiness:
    """Answers ``await readiness()``; its text says who is being waited for."""

    def __init__(self, targets: Mapping[str, str], edge_url: str) -> None:
        self._waiting = dict(targets)
        self._edge_url = edge_url
        self._missing: list[str] = [*targets, "edge"]
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()

    async def __call__(self) -> bool:
        """Whether every service serves, and the edge knows of nothing that is away.

        One that serves is not asked again: its restarts are the supervisor's business.
        """
        answers = await asyncio.gather(*(serves(target) for target in self._waiting.values()))
        for name, answer in zip(list(self._waiting), answers, strict=True):
            if answer:
                del self._waiting[name]
        self._missing = list(self._waiting) or await asyncio.to_thread(_away, self._edge_url)
        self._show()
        return not self._missing

    def __str__(self) -> str:
        """Who is being waited for."""
        return f"waiting for {', '.join(self._missing)}"

    def _show(self) -> None:
        """On a terminal: one line that is rewritten, and gone in the end."""
        if self._terminal:
            text = f"{self} ({time.monotonic() - self._started:.0f} s)" if self._missing else ""
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()


def _away(url: str) -> list[str]:
    """What the edge misses; itself when it does not answer."""
    ready, told = http_ready(url)
    if not told:
        return ["edge"]
    down = [f"edge's {state['name']} ({state['detail']})" for state in told["dependencies"] if state["status"] != "ok"]
    return down or ([] if ready else ["edge"])


async def serves(target: str) -> bool:
    """Whether the gRPC server at ``target`` (without TLS) reports SERVING."""
    import grpc.aio  # after the children were started: they need the time more

    async with grpc.aio.insecure_channel(target) as channel:
        return await serving(channel)


async def serving(channel: Any) -> bool:
    """Whether the gRPC server behind the channel reports SERVING."""
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with contextlib.suppress(grpc.aio.AioRpcError):
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def http_ready(url: str) -> tuple[bool, dict[str, Any]]:
    """Whether the edge at ``url`` is ready, and what it says of its dependencies ({} when nobody answers)."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=TIMEOUT_S) as response:  # noqa: S310 - the edge's own http address
            return True, dict(json.load(response))
    except urllib.error.HTTPError as answer:
        with contextlib.suppress(ValueError):
            return False, dict(json.load(answer))
        return False, {}
    except (OSError, ValueError):
        return False, {}
