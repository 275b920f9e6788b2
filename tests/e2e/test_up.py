"""``fastchat up`` and ``serve`` as a person meets them: first start, second start, Ctrl-C, and what goes wrong."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.allinone.home import KEY_FILE
from deploy.allinone.nats import free_port
from tests.support.stack import clean_environment, until

COMMAND = [sys.executable, "-m", "deploy.cli.main"]


class Up:
    """A run of ``fastchat up`` in a home of its own."""

    def __init__(self, home: Path, **env: str) -> None:
        self.out = home.with_suffix(".out")
        self.err = home.with_suffix(".err")
        ports = {"FASTCHAT_EDGE__PORT": str(free_port()), "FASTCHAT_EDGE__PARTNER__PORT": str(free_port())}
        self.env = {**clean_environment(), **ports, "FASTCHAT_HOME": str(home), **env}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen([*COMMAND, "up"], env=self.env, stdout=out, stderr=err, process_group=0)

    def wait_ready(self) -> str:
        """What it printed once it was ready."""
        until(lambda: "  try  " in self.out.read_text() or self.process.poll() is not None, 90, self.err.read_text)
        assert self.process.poll() is None, self.err.read_text()
        return self.out.read_text()

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def curl_of(printed: str) -> str:
    return re.findall(r"^  try  (.*)$", printed, re.M)[0]


def paste(command: str) -> str:
    """What a shell prints when the line is pasted into it."""
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30, check=True).stdout


def fails(*arguments: str, env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.req("FR-007", "FR-030")
def test_first_start_shows_a_key_that_works_when_pasted_and_the_second_where_it_is(home: Path) -> None:
    first = Up(home)
    printed = first.wait_ready()
    try:
        key = re.findall(r"^  key  (\S+)  \(shown this once", printed, re.M)[0]
        assert (home / KEY_FILE).read_text().strip() == key
        assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
        assert paste(curl_of(printed)).rstrip().endswith("data: [DONE]")
        again = fails("up", env=first.env)  # while the first one runs
        assert again[0] == 2
        assert f"in use by process {first.process.pid}" in again[1]
        left = first.descendants()
    finally:
        assert first.end(signal.SIGINT) == 0
    assert "Traceback" not in first.err.read_text()
    assert not [process for process in left if process.is_running()]

    second = Up(home)
    printed = second.wait_ready()
    try:
        assert key not in printed
        assert str(home / KEY_FILE) in printed
        assert paste(curl_of(printed)).rstrip().endswith("data: [DONE]")
    finally:
        # SIGKILL: nothing may be left that holds the ports or the databases.
        left = second.descendants()
        second.end(signal.SIGKILL)
    until(lambda: not any(process.is_running() for process in left), 10, lambda: str(left))


@pytest.mark.full
@pytest.mark.req("PR-034")
def test_a_crashed_process_comes_back_and_so_do_the_answers(home: Path) -> None:
    running = Up(home)
    printed = running.wait_ready()
    try:
        for name in ("integration", "core", "nats-server"):
            victim = next(child for child in running.descendants() if name in " ".join(child.cmdline()))
            victim.kill()
            until(lambda: answers(curl_of(printed)), 60, running.err.read_text)
    finally:
        assert running.end() == 0


def answers(command: str) -> bool:
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode == 0 and done.stdout.rstrip().endswith("data: [DONE]") and '"error"' not in done.stdout


def test_a_port_in_use_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = {**clean_environment(), "FASTCHAT_HOME": str(home), "FASTCHAT_EDGE__PORT": port}
        code, text = fails("up", env=env)
    assert code == 2
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use; set FASTCHAT_EDGE__PORT" in text


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("edge:\n  max_body_bytes: many\n", "fastchat.yaml:2: edge.max_body_bytes"),
        ("edge:\n  prot: 80\n", "fastchat.yaml:2: edge.prot: unknown setting"),
        ("kitchen: {}\n", "fastchat.yaml:1: kitchen: unknown section"),
        ("edge: [\n", "fastchat.yaml:2"),
        ("mesh:\n  profile: gold\n", "fastchat.yaml:2: mesh.profile"),
        ("models:\n  - alias: x\n    litellm: {}\n", "fastchat.yaml:3: models.0.litellm"),
    ],
)
def test_a_wrong_settings_file_is_refused_with_line_and_field(home: Path, text: str, where: str) -> None:
    home.mkdir()
    file = home / "fastchat.yaml"
    file.write_text(text)
    env = {**clean_environment(), "FASTCHAT_HOME": str(home), "FASTCHAT_CONFIG": str(file)}
    ports = {"FASTCHAT_EDGE__PORT": str(free_port()), "FASTCHAT_EDGE__PARTNER__PORT": str(free_port())}
    code, told = fails("up", env={**env, **ports})
    assert code == 2, told
    assert where in told


def test_a_settings_file_that_is_not_there_is_named(home: Path) -> None:
    env = {**clean_environment(), "FASTCHAT_HOME": str(home), "FASTCHAT_CONFIG": str(home / "none.yaml")}
    code, told = fails("config", "show", env=env)
    assert (code, "none.yaml" in told) == (2, True)


@pytest.fixture
def alone(home: Path, nats_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fastchat serve --only memory`, on SQLite."""
    process = subprocess.Popen([*COMMAND, "serve", "--only", "memory"], env=serving(home, nats_url))
    lock = home / "memory" / "memory.db.lock"
    until(lambda: lock.exists() and lock.read_text() == str(process.pid), 60, lambda: "no lock")
    yield process
    process.terminate()
    assert process.wait(30) == 0


def serving(home: Path, nats_url: str) -> dict[str, str]:
    env = {"FASTCHAT_HOME": str(home), "FASTCHAT_BUS__URL": nats_url}
    addresses = {f"FASTCHAT_MESH__ADDRESSES__{name}": f"127.0.0.1:{free_port()}" for name in ("MEMORY", "CONTROL")}
    return {**clean_environment(), **env, **addresses}


def test_a_second_replica_on_sqlite_is_refused(home: Path, nats_url: str, alone: subprocess.Popen[bytes]) -> None:
    code, told = fails("serve", "--only", "memory", env=serving(home, nats_url))
    assert code == 2
    assert f"a second replica on SQLite: {home}/memory/memory.db is open in process {alone.pid}" in told


def test_a_service_without_its_bus_says_so_and_ends(home: Path) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    code, told = fails("serve", "--only", "memory", env=serving(home, url))
    assert code == 1
    assert f"no answer from {url} (bus.url)" in told
