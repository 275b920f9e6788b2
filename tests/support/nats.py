"""A real NATS server with JetStream for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.allinone.nats import NatsServer


@contextmanager
def nats_server(store: Path) -> Iterator[NatsServer]:
    """A server with a fresh store, stopped at the end."""
    server = NatsServer(store).start()
    try:
        yield server
    finally:
        server.stop()
