"""The whole platform as tests drive it, in both shapes: the all-in-one, and six processes over TCP with PostgreSQL.

Both run the command that people run, with a mock provider behind them, and both can be hurt: a service (or, in the
all-in-one, the process that it lives in) can be killed, stopped, paused and started again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from deploy.allinone import children
from deploy.allinone.nats import NatsServer, free_port
from deploy.services import PROCESSES, SERVICES
from tests.support.replicas import Crew
from tests.support.upstream import KEY as UPSTREAM_KEY

ADMIN_KEY = "fc-test-bootstrap-0123456789abcdef"
START_TIMEOUT_S = 90.0
ALL_IN_ONE, PROCESSES_SHAPE = "all-in-one", "processes"


def until(condition: Callable[[], object], timeout_s: float, what: Callable[[], str]) -> None:
    """Wait for a condition to hold; AssertionError with ``what()`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what()}"
        time.sleep(0.02)


class Process:
    """One process of the stack, with its log in a file."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id; the process must have been started."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; does not wait until it serves."""
        with self.log.open("ab") as log:
            self._process = children.spawn(self._command, env=self._env, output=log)

    def end(self, number: signal.Signals, timeout_s: float = 60) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._process is not None
        children.send(self._process, number)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            children.send(self._process, signal.SIGKILL)
            self._process.wait(10)
            raise AssertionError(f"{self.name} did not end within {timeout_s} s:\n{self.tail()}") from None

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


class Stack:
    """A running platform."""

    def __init__(self, shape: str, home: Path, config: Path, upstream: str, env: Mapping[str, str]) -> None:
        self.shape = shape
        self.home = home
        self.config = config
        self.key = ADMIN_KEY
        self.upstream = upstream
        """Address of the mock provider: PUT /_behaviour/<model>, GET and DELETE /_calls."""
        port, grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.grpc_target = f"127.0.0.1:{grpc_port}"
        self.env = {
            **clean_environment(),
            "FASTCHAT_HOME": str(home),
            "FASTCHAT_CONFIG": str(config),
            "FASTCHAT_BOOTSTRAP_KEY": ADMIN_KEY,
            "FASTCHAT_EDGE__PORT": str(port),
            "FASTCHAT_EDGE__PARTNER__PORT": str(grpc_port),
            "MOCK_KEY": UPSTREAM_KEY,
            # token issuers of tests are on loopback, and rotate their keys without waiting
            "FASTCHAT_EDGE__AUTH__JWKS__ALLOW_HTTP": "true",
            "FASTCHAT_EDGE__AUTH__JWKS__REFETCH_INTERVAL_S": "0.2",
            **env,
        }
        self.processes: dict[str, Process] = {}
        """What was started, by name: one a service (a second one is called "edge-2"), or "up"."""
        self.crew = Crew((), {})
        """Where the replicas are; empty in the all-in-one."""

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        for process in self.processes.values():
            process.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the edge is ready and a model answers behind it."""
        until(self._ready, timeout_s, self.tails)

    def pid_of(self, service: str) -> int:
        """Process id that the service lives in."""
        if self.shape == PROCESSES_SHAPE:
            return self.processes[service].pid
        name = next(name for name, services in PROCESSES.items() if service in services)
        for child in psutil.Process(self.processes["up"].pid).children():
            if child.cmdline()[-2:] == ["deploy.allinone.child", name]:
                return child.pid
        raise AssertionError(f"no process of {service} is running")

    def environment(self, service: str) -> Mapping[str, str]:
        """Environment of the process that the service lives in: what it was told, the mesh's addresses among it."""
        return psutil.Process(self.pid_of(service)).environ()

    def kill(self, service: str) -> None:
        """SIGKILL the process that the service lives in. The all-in-one starts it again by itself."""
        self._signal(service, signal.SIGKILL)

    def stop(self, service: str) -> int:
        """Stop one of the processes properly; returns its exit code."""
        return self.processes[service].end(signal.SIGTERM)

    def restart(self, service: str) -> None:
        """Start one of the processes after ``kill`` or ``stop``; does not wait until it serves."""
        self.processes[service].start()

    def pause(self, service: str) -> None:
        """SIGSTOP the process that the service lives in."""
        self._signal(service, signal.SIGSTOP)

    def resume(self, service: str) -> None:
        """SIGCONT it."""
        self._signal(service, signal.SIGCONT)

    def request(
        self, method: str, path: str, body: Any = None, key: str | None = None, url: str = ""
    ) -> tuple[int, Any]:
        """One call of the HTTP API (of another edge than the first: by its URL), for setting things up -> status, JSON.

        Status 0: nobody answered.
        """
        return _call(method, (url or self.url) + path, body, {"authorization": f"Bearer {key or self.key}"})

    def behave(self, model: str, **behaviour: Any) -> None:
        """Tell the mock provider how to answer calls of a model (fields of tests.support.upstream.Behaviour)."""
        status, _ = _call("PUT", f"{self.upstream}/_behaviour/{model}", behaviour, {})
        assert status == 204

    def calls(self, model: str) -> list[dict[str, Any]]:
        """What the mock provider saw of a model."""
        return [call for call in _call("GET", f"{self.upstream}/_calls", None, {})[1] if call["body"]["model"] == model]

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {name}\n{process.tail()}" for name, process in self.processes.items())

    def close(self) -> None:
        """Stop everything: the edge first, control last, as one would."""
        order = sorted(self.processes, key=_place, reverse=True)
        for name in order:
            if self.processes[name].running:
                children_pid = self.processes[name].pid
                os.kill(children_pid, signal.SIGCONT)  # a paused process cannot end
                self.processes[name].end(signal.SIGTERM)

    def _signal(self, service: str, number: signal.Signals) -> None:
        pid = self.pid_of(service)
        os.kill(pid, number)
        if number == signal.SIGKILL and self.shape == PROCESSES_SHAPE:
            self.processes[service].end(signal.SIGKILL)

    def _ready(self) -> bool:
        dead = [process.name for process in self.processes.values() if not process.running]
        assert not dead, f"{', '.join(dead)} ended while starting\n{self.tails()}"
        status, _ = _call("GET", f"{self.url}/health/ready", None, {})
        if status != 200:
            return False
        body = {"model": "offline", "input": "ready?"}
        return self.request("POST", "/v1/embeddings", body)[0] == 200


@contextmanager
def all_in_one(folder: Path, upstream: str, env: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """``fastchat up`` with a home of its own."""
    stack = Stack(ALL_IN_ONE, folder / "home", _settings(folder, upstream), upstream, env or {})
    stack.processes["up"] = _process("up", ["up"], stack.env, folder)
    with _closing(stack):
        yield stack


@contextmanager
def six_processes(
    folder: Path,
    upstream: str,
    nats_url: str,
    dsn: str,
    env: Mapping[str, str] | None = None,
    replicas: Mapping[str, int] | None = None,
) -> Iterator[Stack]:
    """``fastchat serve --only`` six times, over TCP; of a service in `replicas`, so often (tests.support.replicas)."""
    crew = Crew(SERVICES, replicas or {})
    told = {**crew.shared, "FASTCHAT_BUS__URL": nats_url, "FASTCHAT_DATABASE__URL": dsn, **(env or {})}
    stack = Stack(PROCESSES_SHAPE, folder / "home", _settings(folder, upstream), upstream, told)
    stack.crew = crew
    for name, (service, own) in crew.members.items():
        stack.processes[name] = _process(name, ["serve", "--only", service], {**stack.env, **own}, folder)
    with _closing(stack):
        yield stack


@contextmanager
def mock_upstream(folder: Path) -> Iterator[str]:
    """The mock provider as a process; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "tests.support.upstream", "--port", str(port)]
    process = Process("upstream", command, os.environ, folder / "upstream.log")
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _call("GET", f"{url}/_calls", None, {})[0] == 200, 30, process.tail)
        yield url
    finally:
        process.end(signal.SIGTERM)


@contextmanager
def own_nats(folder: Path) -> Iterator[NatsServer]:
    """A NATS server that a test may hurt."""
    server = NatsServer(folder / "nats").start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _closing(stack: Stack) -> Iterator[None]:
    stack.home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        cleanup.callback(stack.close)
        stack.start()
        yield


def _place(process: str) -> int:
    service = process.partition("-")[0]
    return SERVICES.index(service) if service in SERVICES else 0


def _process(name: str, arguments: list[str], env: Mapping[str, str], folder: Path) -> Process:
    return Process(name, [sys.executable, "-m", "deploy.cli.main", *arguments], env, folder / f"{name}.log")


def _settings(folder: Path, upstream: str) -> Path:
    """Aliases on the mock: one that works, one whose upstream dies in mid-answer, one that cannot be reached."""

    def alias(name: str, **more: Any) -> dict[str, Any]:
        call = {"model": f"openai/{name}", "api_base": f"{upstream}/v1", "api_key": "env:MOCK_KEY"}
        return {"alias": name, "litellm": call, "mode": "chat", "context_window": 128000, **more}

    path = folder / "fastchat.yaml"
    models = [
        alias("mock"),
        alias("mock-other"),
        # no breaker: each call must meet the break itself
        alias("breaks-then-mock", fallbacks=["mock"], cooldown={"failures": 1000}),
        alias("breaks-then-offline", fallbacks=["offline"], cooldown={"failures": 1000}),
        alias("mock-embedding", mode="embedding"),
        {
            **alias("unreachable"),
            "litellm": {"model": "openai/none", "api_base": "http://127.0.0.1:9/v1", "api_key": "x"},
        },
    ]
    path.write_text(yaml.safe_dump({"models": models}))
    for name in ("breaks-then-mock", "breaks-then-offline"):
        _call("PUT", f"{upstream}/_behaviour/{name}", {"cut_after": 3}, {})
    return path


def clean_environment() -> dict[str, str]:
    """This environment without settings that would leak into the stack."""
    named = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LITELLM_BASE_URL", "DATABASE_URL", "DEFAULT_MODEL", "ADMIN_API_KEY")
    return {name: value for name, value in os.environ.items() if not name.startswith("FASTCHAT_") and name not in named}


def _call(method: str, url: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
            return response.status, json.loads(text) if text else None
    except urllib.error.HTTPError as answer:
        with answer:
            text = answer.read()
        return answer.code, json.loads(text) if text.startswith((b"{", b"[")) else text.decode(errors="replace")
    except (OSError, ValueError):
        return 0, None
