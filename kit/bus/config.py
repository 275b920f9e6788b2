"""How to reach NATS."""

from pathlib import Path

from pydantic import Field, SecretStr

from kit.config import Section


class BusConfig(Section):
    """Section `bus`."""

    url: str = ""
    """Servers, "nats://host:port", separated by commas. Empty: the all-in-one's own server."""
    user: str = ""
    """User name; empty: none."""
    password: SecretStr = SecretStr("")
    """Password of the user."""
    token: SecretStr = SecretStr("")
    """Token, instead of a user."""
    credentials_file: Path | None = None
    """NATS credentials file (.creds), instead of both."""
    tls_ca_file: Path | None = None
    """CA of the servers; set: the connection is TLS."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """How long the first connection may take."""
    request_timeout_s: float = Field(default=5.0, gt=0, le=60)
    """How long a request may take before DEPENDENCY_UNAVAILABLE."""
    replicas: int = Field(default=1, ge=1, le=5)
    """Copies of every stream; 3 on a cluster."""
    run_shards: int = Field(default=1, ge=1, le=64)
    """Streams that the runs' logs are spread over; 8 to 16 on a cluster. Changing it orphans the logs that exist."""
    max_events_per_run: int = Field(default=200_000, ge=100)
    """Events that one run's log may hold; the run that reaches it ends with an error."""

    def servers(self) -> list[str]:
        """The URLs."""
        return [part.strip() for part in self.url.split(",") if part.strip()]
