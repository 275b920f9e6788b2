"""``fastchat up``: NATS and three processes on this machine, one address to talk to."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from deploy.allinone import home as homes
from deploy.allinone.nats import NatsServer, free_port
from deploy.allinone.ready import Readiness
from deploy.allinone.supervisor import Child, Limits, Part, Supervisor, say
from deploy.config import AllInOneConfig
from deploy.services import PROCESSES, SERVICES, SUPERVISED
from edge.config import EdgeConfig
from kit.config import ConfigError, Loaded


@dataclass(frozen=True)
class Plan:
    """What will run."""

    waves: list[list[Part]]
    targets: Mapping[str, str]
    url: str
    key_given: str
    key_kept: bool


def run(loaded: Loaded, home: Path) -> int:
    """Serve until a stop signal; returns the process's exit code. ConfigError when it cannot be started as asked."""
    config = loaded.section("allinone", AllInOneConfig)
    with ExitStack() as stack:
        stack.enter_context(homes.lock(home))
        plan = _plan(loaded, home, stack.enter_context(homes.sockets(home)))
        limits = Limits(start_timeout_s=config.start_timeout_s, stop_timeout_s=config.stop_timeout_s)
        supervisor = Supervisor(plan.waves, limits, say)
        started = time.monotonic()
        return asyncio.run(
            supervisor.run(Readiness(plan.targets, plan.url), lambda: _announce(plan, home, time.monotonic() - started))
        )


def _plan(loaded: Loaded, home: Path, run: Path) -> Plan:
    edge = loaded.section("edge", EdgeConfig)
    port = edge.port or free_port(edge.host)
    for field, host, wanted in (("PORT", edge.host, port), ("PARTNER__PORT", edge.partner.host, edge.partner.port)):
        if field == "PORT" or edge.partner.enabled:
            _require_free(host, wanted, f"FASTCHAT_EDGE__{field}")
    targets = {name: f"unix:{run / name}.sock" for name in SERVICES}
    env = {
        **os.environ,
        "FASTCHAT_HOME": str(home),
        "FASTCHAT_EDGE__PORT": str(port),
        SUPERVISED: "1",
        # Neighbours on this machine: ask again soon for one that is still starting.
        "FASTCHAT_MESH__CHANNEL__RECONNECT_S": "0.2",
        **{f"FASTCHAT_MESH__ADDRESSES__{name.upper()}": target for name, target in targets.items()},
    }
    nats = _nats(loaded, home)
    if nats is not None:
        env["FASTCHAT_BUS__URL"] = nats.url
    children = {name: Child(name, [sys.executable, "-m", "deploy.allinone.child", name], env) for name in PROCESSES}
    # Readers are let go first; what answers them goes last; the log outlives all who write it.
    first = [children.pop("core")]
    waves: list[list[Part]] = [list(first), list(children.values())]
    if nats is not None:
        waves.append([nats])
    given = loaded.env.get("FASTCHAT_BOOTSTRAP_KEY", "").strip()
    host = "127.0.0.1" if edge.host in ("0.0.0.0", "::", "") else edge.host  # noqa: S104 - what a client here would call
    return Plan(waves, targets, f"http://{host}:{port}", given, homes.kept_key(home) is not None)


def _nats(loaded: Loaded, home: Path) -> NatsServer | None:
    """The embedded server, unless the configuration names one."""
    if loaded.origins().get("bus.url", "default") != "default":
        return None
    return NatsServer(home / "nats", fsync=loaded.section("allinone", AllInOneConfig).fsync)


def _require_free(host: str, port: int, variable: str) -> None:
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise ConfigError(f"{host}:{port} cannot be listened on: {problem.strerror}; set {variable}") from problem


def _announce(plan: Plan, home: Path, seconds: float) -> None:
    """The ready lines: where it listens, where the key is, and something to paste."""
    file = home / homes.KEY_FILE
    made = None if plan.key_given or plan.key_kept else homes.kept_key(home)
    if plan.key_given:
        key, told = f"{plan.key_given}  (from FASTCHAT_BOOTSTRAP_KEY)", plan.key_given
    elif made:
        key, told = f"{made}  (shown this once; kept in {file})", made
    else:
        key, told = f"kept in {file}", f"$(cat {shlex.quote(str(file))})"
    body = '{"model": "offline", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    sys.stdout.write(
        f"\nFast-Chat is ready after {seconds:.1f} s.\n\n"
        f"  url  {plan.url}\n"
        f"  key  {key}\n"
        f'  try  curl -N {plan.url}/v1/chat/completions -H "Authorization: Bearer {told}" '
        f"-H 'Content-Type: application/json' -d '{body}'\n\n"
    )
    sys.stdout.flush()
