"""Where a service's rows are."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from kit.config import ConfigError, Section

SQLITE = "sqlite+aiosqlite"
POSTGRES = "postgresql+asyncpg"
_SCHEMES: Mapping[str, str] = {
    "sqlite": SQLITE,
    SQLITE: SQLITE,
    "postgres": POSTGRES,
    "postgresql": POSTGRES,
    POSTGRES: POSTGRES,
}


class DatabaseConfig(Section):
    """Section `database`."""

    url: str = ""
    """One PostgreSQL DSN for all services, each in a schema of its own. Empty: SQLite, one file a service."""
    urls: Mapping[str, str] = Field(default_factory=dict)
    """Service name -> its own DSN, over `url`."""
    pool_size: int = Field(default=10, ge=1, le=200)
    """Connections a service holds at most (PostgreSQL), or readers (SQLite; it has one writer)."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """How long to wait for a connection, or for SQLite's writer, before STORAGE_UNAVAILABLE."""

    def url_for(self, service: str, home: Path) -> str:
        """SQLAlchemy URL of the service's database. ConfigError for an engine that is not supported."""
        return normalize_url(self.urls.get(service) or self.url or default_url(service, home))


def default_url(service: str, home: Path) -> str:
    """SQLite file of a service: `<home>/<service>/<service>.db`."""
    return f"{SQLITE}:///{home / service / service}.db"


def normalize_url(url: str) -> str:
    """The URL with the async driver's scheme: "postgres://..." and "sqlite:///..." are understood."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigError(
            f"database: {scheme or 'an empty text'} is not a supported engine; use postgresql:// or sqlite:///"
        )
    return f"{_SCHEMES[scheme]}://{rest}"


def is_sqlite(url: str) -> bool:
    """Whether the (normalized) URL is a SQLite file."""
    return url.startswith(f"{SQLITE}://")
