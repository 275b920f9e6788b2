"""`make bench`: every peer on one mock upstream, in one run; prints a table and writes build/bench.json.

Peers: the upstream itself; a bare FastAPI relay (Python's floor); LiteLLM's SDK in
process; LiteLLM's proxy in a venv of its own with a worker per core; us, all in one.
Peers take turns on the same machine, so read the ratios, not the absolute figures.

    python -m tests.bench.run [--only relay,us] [--seconds 6]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEY = "fc-bench-key-0123456789abcdef0123456789abcdef"
PROXY_VENV = ROOT / ".venv-proxy"


@dataclass(frozen=True)
class Peer:
    """A server under test: where it answers, and the process tree that serves it."""

    name: str
    url: str
    key: str
    process: subprocess.Popen[bytes] | None


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def python(*args: str) -> list[str]:
    """Command line of this interpreter."""
    return [sys.executable, *args]


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its own group, ended with all its children."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=out, stderr=out, cwd=ROOT, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_http(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    """Wait until the URL answers anything at all."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url} did not come up:\n{log.read_text()[-3000:]}")


def wait_port(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 20) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on {port}:\n{log.read_text()[-3000:]}")


def memory_mb(process: subprocess.Popen[bytes] | None) -> float | None:
    """Proportional memory (shared pages counted once) of a process and its descendants, MB."""
    if process is None:
        return None
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    total = 0
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            info = member.memory_full_info()
            total += getattr(info, "pss", info.rss)
    return round(total / 1e6, 1)


def load(peer: Peer, *args: str) -> dict[str, float]:
    """Run the client in a process of its own."""
    out = subprocess.run(
        python("-m", "tests.bench.load", "--url", peer.url, "--key", peer.key, *args),
        cwd=ROOT, check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    return dict(json.loads(out.stdout.splitlines()[-1]))


def measure(peer: Peer, seconds: str) -> dict[str, object]:
    """Every figure of one peer. The first calls, which warm it up, are not counted."""
    at_rest = memory_mb(peer.process)
    load(peer, "--streams", "4", "--seconds", "2")
    load(peer, "--streams", "4", "--seconds", "1", "--no-stream")
    figures = {
        "one": load(peer, "--streams", "1", "--seconds", seconds),
        "sixteen": load(peer, "--streams", "16", "--seconds", seconds),
        "sixty_four": load(peer, "--streams", "64", "--seconds", seconds),
        "whole": load(peer, "--streams", "16", "--seconds", seconds, "--no-stream"),
        "paced": load(peer, "--streams", "200", "--wave", "--model", "mock-20ms"),
    }
    return {**figures, "memory_rest_mb": at_rest, "memory_after_mb": memory_mb(peer.process)}


@contextlib.contextmanager
def relay(base: str, scratch: Path) -> Iterator[Peer]:
    port = free_port()
    log = scratch / "relay.log"
    command = python("-m", "uvicorn", "tests.bench.peers.relay:app", "--port", str(port), "--log-level", "warning")
    with running(command, {"BENCH_UPSTREAM": f"{base}/chat/completions"}, log) as process:
        wait_http(f"http://127.0.0.1:{port}/", process, log)
        yield Peer("relay", f"http://127.0.0.1:{port}/v1/chat/completions", "none", process)


def install_proxy() -> Path:
    """LiteLLM's proxy in its own venv: it never shares ours."""
    stamp = PROXY_VENV / ".ready"
    if not stamp.exists():
        subprocess.run(python("-m", "venv", str(PROXY_VENV)), check=True)
        lock = str(HERE / "requirements-proxy.lock")
        pip = [str(PROXY_VENV / "bin/pip"), "install", "-q", "--no-compile", "--require-hashes", "-r", lock]
        subprocess.run(pip, check=True)
        stamp.touch()
    return PROXY_VENV / "bin/litellm"


@contextlib.contextmanager
def proxy(base: str, scratch: Path) -> Iterator[Peer]:
    port = free_port()
    log = scratch / "proxy.log"
    workers = str(os.cpu_count() or 1)
    key = f"sk-{KEY}"
    env = {
        "BENCH_BASE": base,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
    }
    command = [str(install_proxy()), "--config", str(HERE / "proxy.yaml"), "--host", "127.0.0.1"]
    with running([*command, "--port", str(port), "--num_workers", workers], env, log) as process:
        wait_http(f"http://127.0.0.1:{port}/health/liveliness", process, log)
        yield Peer("proxy", f"http://127.0.0.1:{port}/v1/chat/completions", key, process)


@contextlib.contextmanager
def us(base: str, scratch: Path) -> Iterator[Peer]:
    port = free_port()
    log = scratch / "us.log"
    env = {
        "FASTCHAT_HOME": str(scratch / "home"),
        "FASTCHAT_CONFIG": str(HERE / "fastchat.yaml"),
        "FASTCHAT_EDGE__PORT": str(port),
        "FASTCHAT_EDGE__PARTNER__PORT": str(free_port()),
        "FASTCHAT_BOOTSTRAP_KEY": KEY,
        "BENCH_BASE": base,
        "BENCH_KEY": "none",
    }
    with running([str(Path(sys.executable).parent / "fastchat"), "up"], env, log) as process:
        wait_http(f"http://127.0.0.1:{port}/health/ready", process, log)
        yield Peer("us", f"http://127.0.0.1:{port}/v1/chat/completions", KEY, process)


def sdk(base: str, seconds: str) -> dict[str, object]:
    """LiteLLM's SDK has no server: its figures come from its own process."""

    def run(*args: str) -> dict[str, float]:
        command = python("-m", "tests.bench.peers.sdk", "--base", base, "--seconds", seconds, *args)
        out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=180)
        return dict(json.loads(out.stdout.splitlines()[-1]))

    return {
        "one": run("--streams", "1"),
        "sixteen": run("--streams", "16"),
        "sixty_four": run("--streams", "64"),
        "whole": run("--streams", "16", "--no-stream"),
    }


COLUMNS = (
    ("chunks/s @16", "sixteen", "chunks_per_s"),
    ("chunks/s @64", "sixty_four", "chunks_per_s"),
    ("first ms @1", "one", "first_p50_ms"),
    ("first ms @16", "sixteen", "first_p50_ms"),
    ("requests/s", "whole", "requests_per_s"),
    ("paced p95 ms", "paced", "total_p95_ms"),
    ("paced errors", "paced", "errors"),
)


def table(results: dict[str, dict[str, object]]) -> str:
    """Markdown, a row a peer."""
    heads = [c[0] for c in COLUMNS] + ["MB at rest", "MB after"]
    rows = ["| peer | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, result in results.items():
        cells = []
        for _, group, figure in COLUMNS:
            values = result.get(group)
            cells.append(str(values.get(figure, "")) if isinstance(values, dict) else "")
        cells += [str(result.get("memory_rest_mb") or ""), str(result.get("memory_after_mb") or "")]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Run the peers in turn and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="direct,relay,sdk,proxy,us")
    parser.add_argument("--seconds", default="6")
    args = parser.parse_args()
    wanted = args.only.split(",")
    scratch = Path(tempfile.mkdtemp(prefix="fastchat-bench-"))
    results: dict[str, dict[str, object]] = {}
    port = free_port()
    base = f"http://127.0.0.1:{port}/v1"
    log = scratch / "upstream.log"
    with running(python("-m", "tests.bench.upstream", "--port", str(port)), {}, log) as upstream:
        wait_port(port, upstream, log)
        if "direct" in wanted:
            results["direct"] = measure(Peer("direct", f"{base}/chat/completions", "none", None), args.seconds)
        if "sdk" in wanted:
            results["sdk"] = sdk(base, args.seconds)
        for name, start in (("relay", relay), ("proxy", proxy), ("us", us)):
            if name in wanted:
                with start(base, scratch) as peer:
                    results[name] = measure(peer, args.seconds)
    out = ROOT / "build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=2))
    print(table(results))
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
