"""Channels to other services: every call carries the principal, the deadline and the trace of the task that makes it.

A channel here wraps grpc.aio's instead of using its client interceptors: those put a Python generator and a task
around every stream, and hide `cancel()` behind them. What is returned here is gRPC's own call object, so nothing is
added per message (docs/decisions/0010 has the figures).
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from pydantic import Field

from kit.config import Section
from kit.deadline import remaining
from kit.errors import PlatformError
from kit.interceptors import called
from kit.interceptors.outgoing import Outgoing
from kit.principal import Signer
from kit.tls import TlsFiles

__all__ = ["ChannelConfig", "MeshChannel", "calling", "open_channel", "remaining"]


class ChannelConfig(Section):
    """Part `channel` of section `mesh`."""

    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Largest message sent or received."""
    keepalive_s: float = Field(default=30.0, ge=1)
    """Silence after which a connection is pinged."""
    keepalive_timeout_s: float = Field(default=10.0, ge=1)
    """How long a ping may go unanswered before the connection counts as dead."""
    reconnect_s: float = Field(default=2.0, ge=0.1)
    """Longest pause between two attempts to connect."""
    unary_s: float = Field(default=60.0, ge=0)
    """Deadline of calls with one answer that state none; 0: none."""


@contextmanager
def calling(dependency: str) -> Iterator[None]:
    """Turn the gRPC errors of a block into PlatformError: `with calling("control"): await stub.GetTenant(...)`."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise PlatformError.from_rpc(error, dependency) from error


def open_channel(
    address: str, *, signer: Signer | None = None, tls: TlsFiles | None = None, config: ChannelConfig | None = None
) -> "MeshChannel":
    """A channel to a gRPC target ("127.0.0.1:7001", "unix:/path", "dns:///host:port"); connects at the first call.

    Unix sockets are guarded by file permissions and stay plain; everything else uses `tls` if given.
    """
    config = config or ChannelConfig()
    options = _options(config)
    if tls is None or address.startswith("unix"):
        inner = grpc.aio.insecure_channel(address, options=options)
    else:
        options += tls.channel_options()
        inner = grpc.aio.secure_channel(address, tls.channel_credentials(), options=options)
    return MeshChannel(inner, Outgoing(signer, config.unary_s))


def _options(config: ChannelConfig) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(config.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC waits up to two minutes between attempts; a restarted neighbour should be found at once
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5000),  # which is how long one attempt may take, whatever its name says
        ("grpc.max_reconnect_backoff_ms", int(config.reconnect_s * 1000)),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ]


class _Call:
    """One method of a channel, of any kind: calls gRPC's multicallable with our metadata and timeout."""

    def __init__(self, path: str, inner: Any, outgoing: Outgoing, *, streaming: bool) -> None:
        self._path = path
        self._inner = inner
        self._outgoing = outgoing
        self._streaming = streaming

    def __call__(
        self, request: Any = None, *, timeout: float | None = None, metadata: Any = None, **options: Any
    ) -> Any:
        if "request_iterator" in options:  # gRPC's name for it when requests stream
            request = options.pop("request_iterator")
        timeout = self._outgoing.timeout(timeout, streaming=self._streaming)
        with called.observed(self._path) as watch:
            pairs = self._outgoing.metadata(metadata)
            call = self._inner(request, timeout=timeout, metadata=pairs, **options)
            watch(call)
        return call


class MeshChannel(grpc.aio.Channel):
    """grpc.aio's channel with what goes along every call."""

    def __init__(self, inner: grpc.aio.Channel, outgoing: Outgoing) -> None:
        self._inner = inner
        self._outgoing = outgoing

    async def __aenter__(self) -> "MeshChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close the connection; calls in progress get `grace` seconds, or end now."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Connectivity as gRPC sees it."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connectivity is another."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the channel is connected."""
        await self._inner.channel_ready()

    async def ready_within(self, seconds: float) -> bool:
        """Whether the channel is connected after at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._inner.channel_ready()
        except TimeoutError:
            return False
        return True

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """One request, one answer."""
        return _Call(method, self._inner.unary_unary(method, *args, **kwargs), self._outgoing, streaming=False)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """One request, many answers."""
        return _Call(method, self._inner.unary_stream(method, *args, **kwargs), self._outgoing, streaming=True)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Many requests, one answer."""
        return _Call(method, self._inner.stream_unary(method, *args, **kwargs), self._outgoing, streaming=True)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Many requests, many answers."""
        return _Call(method, self._inner.stream_stream(method, *args, **kwargs), self._outgoing, streaming=True)
