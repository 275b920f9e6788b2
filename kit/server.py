"""A gRPC server around a service: health, reflection, limits, keepalive, interceptors, one address."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from pydantic import Field

from kit.admission import Admission, AdmissionConfig
from kit.config import ConfigError, Section
from kit.health import Health
from kit.interceptors.deadline import DeadlineConfig
from kit.interceptors.principal import Authenticate, mesh_authentication
from kit.interceptors.stack import ServerStack
from kit.principal import Verifier
from kit.tls import TlsFiles

# What calls that were ended get for telling so, before their connections are closed.
_CUT_S = 1.0

Registration = Callable[[grpc.aio.Server], None]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ServerConfig(Section):
    """Part `server` of section `mesh`."""

    max_message_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Largest message received or sent."""
    keepalive_s: float = Field(default=60.0, ge=1)
    """Silence after which a connection is pinged."""
    keepalive_timeout_s: float = Field(default=20.0, ge=1)
    """How long a ping may go unanswered before the connection is closed."""
    min_ping_interval_s: float = Field(default=5.0, ge=0)
    """Clients that ping more often are told to go away."""
    max_connection_age_s: float = Field(default=0.0, ge=0)
    """Age at which a connection is asked to reconnect, so that new replicas get their part; 0: never."""
    deadlines: DeadlineConfig = DeadlineConfig()
    """The longest a call may last."""
    admission: AdmissionConfig = AdmissionConfig()
    """How many calls are served at once."""


class Served(Protocol):
    """What is served; `kit.mesh.Service` and `PublicPort` are such."""

    @property
    def name(self) -> str:
        """Name in metrics and logs."""

    @property
    def registrations(self) -> Sequence[Registration]:
        """Functions that add servicers."""

    @property
    def service_names(self) -> Sequence[str]:
        """Full proto names."""

    @property
    def health(self) -> Health:
        """What the health service reports."""


class Mesh(Protocol):
    """What a server needs of the mesh."""

    @property
    def verifier(self) -> Verifier:
        """Checks the callers' principals."""

    @property
    def tls(self) -> TlsFiles | None:
        """Certificates, if mutual TLS is on."""


class RunningServer:
    """A server that answers at `address` until it is drained."""

    def __init__(
        self, server: grpc.aio.Server, address: str, admission: Admission, stack: ServerStack, health: "_HealthPort"
    ) -> None:
        self.address = address
        self.admission = admission
        self._server = server
        self._stack = stack
        self._health = health

    async def drain(self, seconds: float) -> None:
        """Refuse new calls, give those in progress up to `seconds`, then end them with DRAINING.

        Subscriptions (Watch...) end at once. Returns when nothing runs.
        """
        await self._health.drain()
        self.admission.draining = True
        self._stack.end_watches()
        late = asyncio.get_running_loop().call_later(seconds, self.end_all)
        try:
            # gRPC tells connected clients to go elsewhere (GOAWAY) and closes the port at once
            await self._server.stop(seconds + _CUT_S)
        finally:
            late.cancel()

    def end_all(self) -> None:
        """End what runs with DRAINING, now."""
        self._stack.end_all()


@asynccontextmanager
async def serve(
    service: Served,
    mesh: Mesh,
    bind: str,
    config: ServerConfig | None = None,
    *,
    admission: Admission | None = None,
    authenticate: Authenticate | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve on "host:port" (port 0: any free one) or "unix:/path". ConfigError when the address cannot be taken.

    `authenticate` replaces the mesh's signed principals on a port for the public, whose callers are not trusted and
    have no certificate of ours: TLS on it is the ingress's.
    """
    config = config or ServerConfig()
    admission = admission or Admission(config.admission, service.name)
    stack = ServerStack(
        authenticate or mesh_authentication(mesh.verifier), admission, config.deadlines, trusted=authenticate is None
    )
    server = grpc.aio.server(interceptors=[stack], options=_options(config))
    for register in service.registrations:
        register(server)
    health = _HealthPort(service)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    names = [*service.service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    address = _bind(server, bind, mesh.tls if authenticate is None else None)
    await health.publish()
    await server.start()
    try:
        yield RunningServer(server, address, admission, stack, health)
    finally:
        health.close()
        await server.stop(0)
        _unlink(address)


class _HealthPort:
    """grpc.health.v1 for one server: follows the service's Health."""

    def __init__(self, service: Served) -> None:
        self.servicer = HealthServicer()
        self._health = service.health
        self._names = ["", *service.service_names]
        self._wake = asyncio.Event()
        service.health.on_change(self._wake.set)
        self._task = asyncio.create_task(self._follow(), name=f"health of {service.name}")

    async def publish(self) -> None:
        """Tell the state as it is now."""
        status = _SERVING if self._health.ready else _NOT_SERVING
        for name in self._names:
            await self.servicer.set(name, status)

    async def drain(self) -> None:
        """Tell NOT_SERVING for good."""
        self._health.drain()
        await self.servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """Stop following."""
        self._task.cancel()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.publish()


def _options(config: ServerConfig) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(config.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(config.min_ping_interval_s * 1000)),
        ("grpc.so_reuseport", 0),  # else a port in use is shared in silence
    ]
    if config.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", int(config.max_connection_age_s * 1000)))
    return options


def _bind(server: grpc.aio.Server, bind: str, tls: TlsFiles | None) -> str:
    """Take the address; returns it with the real port. The errors are for a person."""
    unix = bind.startswith("unix:")
    if unix:
        _clear_socket(bind)
    try:
        port = (
            server.add_insecure_port(bind)
            if unix or tls is None
            else server.add_secure_port(bind, tls.server_credentials())
        )
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {bind}: {_why(bind)}") from error
    if unix:
        os.chmod(_path(bind), stat.S_IRUSR | stat.S_IWUSR)
        return bind
    return f"{bind.rpartition(':')[0]}:{port}"


def _path(address: str) -> Path:
    return Path(address.removeprefix("unix:").removeprefix("//"))


def _clear_socket(bind: str) -> None:
    """Remove the socket that a killed process left; refuse when somebody answers on it."""
    path = _path(bind)
    if len(os.fsencode(path)) > 100:  # 104 on macOS, 108 on Linux, with the end mark
        raise ConfigError(f"cannot listen on {bind}: the path of a unix socket has at most 100 bytes")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConfigError(f"cannot listen on {bind}: another process does")


def _unlink(address: str) -> None:
    if address.startswith("unix:"):
        with contextlib.suppress(OSError):
            _path(address).unlink()


def _why(bind: str) -> str:
    """What the system says about the address; gRPC only says that it failed."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return "the address was refused"
