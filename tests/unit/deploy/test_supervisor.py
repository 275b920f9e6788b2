"""The supervisor over small commands of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.allinone import children

MAIN = """
import asyncio, os, sys
from pathlib import Path
from deploy.allinone.supervisor import Child, Limits, Supervisor, say
folder = Path(sys.argv[1])
def child(name, script):
    return Child(name, ["/bin/sh", "-c", script, name, str(folder)], dict(os.environ))
first = child("first", sys.argv[2])
base = child("base", 'trap "echo base >> $1/stopped; exit 0" TERM; echo $$ >> $1/base; while :; do sleep 0.05; done')
async def ready():
    return (folder / "steady").exists() and (folder / "base").exists()
limits = Limits(start_timeout_s=10, stop_timeout_s=5, restart_first_s=0.01)
supervisor = Supervisor([[first], [base]], limits, say)
sys.exit(asyncio.run(supervisor.run(ready, lambda: (folder / "ready").touch())))
"""
STEADY = (
    'trap "echo first >> $1/stopped; exit 0" TERM; echo $$ >> $1/first; touch $1/steady; while :; do sleep 0.05; done'
)


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait for a condition to hold."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path):
    started: list[subprocess.Popen[str]] = []

    def run(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, str(tmp_path), script], stderr=subprocess.PIPE, text=True, process_group=0
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def pids(folder: Path, name: str) -> list[int]:
    path = folder / name
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_stops_wave_by_wave_on_sigterm(start, tmp_path: Path) -> None:
    process = start(STEADY)
    until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, (tmp_path / "stopped").read_text().split(), errors) == (0, ["first", "base"], "")


def test_starts_a_crashed_child_again(start, tmp_path: Path) -> None:
    process = start(STEADY)
    until((tmp_path / "ready").exists)
    os.kill(pids(tmp_path, "first")[0], signal.SIGKILL)
    until(lambda: len(pids(tmp_path, "first")) == 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert "first ended (killed by SIGKILL)" in errors


@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (78, 3)], ids=["misconfigured", "failing"])
def test_gives_up_with_the_code_of_a_child_that_cannot_start(start, tmp_path: Path, code: int, attempts: int) -> None:
    process = start(f"echo $$ >> $1/first; exit {code}")
    _, errors = process.communicate(timeout=10)
    assert process.returncode == code
    assert f"first did not start (exit code {code})" in errors
    assert len(pids(tmp_path, "first")) == attempts
    assert not any(psutil.pid_exists(pid) for pid in pids(tmp_path, "base"))


def test_leaves_no_orphans_when_it_is_killed(start, tmp_path: Path) -> None:
    process = start(STEADY)
    until((tmp_path / "ready").exists)
    left = pids(tmp_path, "first") + pids(tmp_path, "base")
    process.kill()
    until(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in left))


@pytest.mark.parametrize("tether", [False, True], ids=["death signal", "pipe"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the death signal is Linux's; elsewhere only the pipe")
def test_spawned_process_ends_with_its_parent(tmp_path: Path, tether: bool) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from deploy.allinone.children import spawn\n"
        f"spawn(['/bin/sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 60'], tether={tether})\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    until(lambda: bool(pids(tmp_path, "pid")))
    parent.kill()
    parent.wait()
    until(lambda: not psutil.pid_exists(pids(tmp_path, "pid")[0]))


def test_tethered_process_keeps_its_exit_code_and_takes_signals(tmp_path: Path) -> None:
    quick = children.spawn(["/bin/sh", "-c", "exit 7"], tether=True)
    assert quick.wait(10) == 7
    slow = children.spawn(
        ["/bin/sh", "-c", f"trap 'exit 9' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"], tether=True
    )
    until((tmp_path / "up").exists)
    children.send(slow, signal.SIGTERM)
    assert slow.wait(10) == 9
    for process in (quick, slow):
        assert process.stdin is not None
        process.stdin.close()
