"""Mutual TLS between services, by configuration: one authority, and a certificate for each service."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from kit.config import ConfigError, Section


class TlsConfig(Section):
    """Part `tls` of section `mesh`: PEM files. All empty: plain text (loopback, unix sockets, or a mesh sidecar)."""

    ca: str = ""
    """Certificates of the authority that signed every service's certificate."""
    cert: str = ""
    """This process's certificate chain; used to serve and to call."""
    key: str = ""
    """Private key of `cert`."""
    server_name: str = ""
    """Name expected in a server's certificate, where it is not the host that is dialled."""

    def files(self) -> "TlsFiles | None":
        """The files read; None when nothing is set. ConfigError when some are missing or unreadable."""
        told = {"ca": self.ca, "cert": self.cert, "key": self.key}
        if not any(told.values()):
            return None
        missing = [f"mesh.tls.{name}" for name, path in told.items() if not path]
        if missing:
            raise ConfigError(f"mutual TLS needs {', '.join(missing)} as well")
        ca, cert, key = (_read(Path(path)) for path in told.values())
        return TlsFiles(ca, cert, key, self.server_name)


@dataclass(frozen=True)
class TlsFiles:
    """PEM contents."""

    ca: bytes
    cert: bytes
    key: bytes
    server_name: str = ""

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a port that refuses clients without a certificate of the authority."""
        return grpc.ssl_server_credentials([(self.key, self.cert)], root_certificates=self.ca, require_client_auth=True)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials that show our certificate and demand one of the authority."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)

    def channel_options(self) -> list[tuple[str, str]]:
        """Options that go with the credentials."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the TLS file: {error.strerror}") from error
