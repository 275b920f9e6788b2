"""What every service of a process is given, and what it gives back: Mesh in, Service out."""

import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from kit.admission import Admission
from kit.channel import ChannelConfig, MeshChannel, open_channel
from kit.config import ConfigError, Loaded, Section
from kit.crypto import Keyring
from kit.health import Health
from kit.interceptors.principal import Authenticate
from kit.principal import Signer, Verifier, load_or_create_mesh_key, load_public_keys
from kit.resilience import Policy
from kit.server import Registration, ServerConfig
from kit.tls import TlsConfig, TlsFiles

if TYPE_CHECKING:
    from kit.bus import Bus

Background = Callable[[], Coroutine[Any, Any, None]]
Drain = Callable[[float], Awaitable[None]]


class MeshConfig(Section):
    """Section `mesh`: how the services of an installation find and trust each other."""

    profile: Literal["oss", "enterprise"] = "oss"
    """Which defaults apply."""
    addresses: Mapping[str, str] = Field(default_factory=dict)
    """Service name -> gRPC target that others dial, such as "127.0.0.1:7001", "unix:/path", "dns:///host:7001"."""
    bind: Mapping[str, str] = Field(default_factory=dict)
    """Service name -> address that it listens on, where it is not the one that others dial."""
    key_file: str = ""
    """Ed25519 private key (PEM) that signs principals, the same for all. Empty: `<home>/keys/mesh.pem`, made once."""
    trusted_keys: Sequence[str] = ()
    """Public keys (PEM files) accepted beside it, while the key is rotated."""
    tls: TlsConfig = TlsConfig()
    """Mutual TLS."""
    drain_s: float = Field(default=20.0, ge=0)
    """How long running calls and streams may go on after the signal to stop."""
    server: ServerConfig = ServerConfig()
    """Every gRPC server."""
    channel: ChannelConfig = ChannelConfig()
    """Every gRPC channel."""
    resilience: Mapping[str, Policy] = Field(default_factory=dict)
    """Dependency name -> how calls to it are guarded; "default" for those not named."""

    def policy(self, dependency: str) -> Policy:
        """How calls to a dependency are guarded."""
        return self.resilience.get(dependency) or self.resilience.get("default") or Policy()

    def bind_of(self, service: str) -> str:
        """Where a service listens: its bind address, else the address that others dial, else a free loopback port."""
        told = self.bind.get(service) or self.addresses.get(service) or "127.0.0.1:0"
        if told.startswith("dns:"):
            raise ConfigError(f"mesh.bind.{service}: {told} can be dialled, not listened on; set a host and port")
        return told


@dataclass(frozen=True)
class Mesh:
    """One per process. What is opened through it is closed by the process."""

    home: Path
    """FASTCHAT_HOME: where this installation keeps its state."""
    replica: str
    """Unique id of this process, such as "h7f3a9c21"."""
    profile: str
    """oss | enterprise"""
    addresses: Mapping[str, str]
    """Service name -> gRPC target."""
    signer: Signer
    verifier: Verifier
    tls: TlsFiles | None
    bus: "Bus | None"
    """Connected NATS; None only in tests that need none."""
    keyring: Keyring
    config: Loaded
    _channels: dict[str, MeshChannel] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> MeshConfig:
        """Section `mesh`."""
        return self.config.section("mesh", MeshConfig)

    def channel(self, service: str) -> MeshChannel:
        """The channel to a service, opened once. ConfigError when its address is not known."""
        found = self._channels.get(service)
        if found is None:
            address = self.addresses.get(service)
            if not address:
                raise ConfigError(
                    f"no address of service {service}: set mesh.addresses.{service}"
                    f" or FASTCHAT_MESH__ADDRESSES__{service.upper()}"
                )
            found = open_channel(address, signer=self.signer, tls=self.tls, config=self.settings.channel)
            self._channels[service] = found
        return found

    async def close(self) -> None:
        """Close the channels."""
        while self._channels:
            await self._channels.popitem()[1].close()


def open_mesh(loaded: Loaded, home: Path, bus: "Bus | None" = None) -> Mesh:
    """The mesh of this process: keys read (or made), nothing connected. ConfigError for what is wrong in `mesh`."""
    settings = loaded.section("mesh", MeshConfig)
    key = load_or_create_mesh_key(Path(settings.key_file) if settings.key_file else home / "keys" / "mesh.pem")
    trusted = load_public_keys([Path(path) for path in settings.trusted_keys])
    return Mesh(
        home=home,
        replica=new_replica(),
        profile=settings.profile,
        addresses=dict(settings.addresses),
        signer=Signer(key),
        verifier=Verifier({key.key_id: key.public, **trusted}),
        tls=settings.tls.files(),
        bus=bus,
        keyring=Keyring.from_home(home),
        config=loaded,
    )


def new_replica() -> str:
    """A new replica id: "h" and 8 hex digits."""
    return f"h{secrets.token_hex(4)}"


@dataclass(frozen=True)
class PublicPort:
    """A gRPC port for clients outside the mesh, with its own way to find out who calls."""

    name: str
    registrations: Sequence[Registration]
    service_names: Sequence[str]
    health: Health
    bind: str
    authenticate: Authenticate


@dataclass(kw_only=True)
class Service:
    """What a service's `build` yields: what the process serves, runs and drains."""

    name: str
    """Name in addresses, metrics and logs."""
    health: Health
    registrations: Sequence[Registration] = ()
    """Functions that add servicers: `lambda server: add_XServicer_to_server(x, server)`."""
    service_names: Sequence[str] = ()
    """Full proto names, for health and reflection."""
    background: Sequence[Background] = ()
    """Long tasks: started after the server answers, cancelled after it drained."""
    http: Any = None
    """ASGI app; edge only."""
    http_bind: str = "127.0.0.1:8080"
    """Where the ASGI app listens: "host:port"."""
    public: PublicPort | None = None
    """gRPC port for clients outside the mesh."""
    admission: Admission | None = None
    """Admission shared by the service's HTTP and gRPC; made from the settings if None."""
    drain: Drain | None = None
    """Finish what runs within so many seconds; called once new work is refused, beside the ports' own drain. HTTP
    responses that then still run get one second more before they are cut: end them properly here."""


Build = Callable[[Any, Mesh], AbstractAsyncContextManager[Service]]
"""A service's composition root: `@asynccontextmanager async def build(config, mesh)`."""
