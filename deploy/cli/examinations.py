"""What the doctor looks at. Each examination gives findings; none changes anything."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from deploy.allinone.nats import NatsUnavailable, find_server
from deploy.allinone.ready import http_ready
from deploy.cli.admin import configured_url
from deploy.services import SERVICES, configuration, home
from kit.bus import BusConfig
from kit.config import ConfigError, Loaded, mask_url
from kit.db.config import DatabaseConfig, is_sqlite
from kit.mesh import MeshConfig

State = Literal["ok", "note", "missing", "wrong"]
# Event log, databases and their journals want room to breathe.
LEAST_FREE_BYTES = 1 << 30
PLUGIN_GROUPS = (
    "fastchat.vector_providers",
    "fastchat.extractors",
    "fastchat.rerankers",
    "fastchat.node_types",
    "fastchat.tools",
    "fastchat.policy_hooks",
    "fastchat.kms",
    "fastchat.sandboxes",
)
PROVIDER_KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LITELLM_BASE_URL")


@dataclass(frozen=True)
class Finding:
    """One line. ``wrong`` keeps the platform from running as configured; ``missing`` costs a feature."""

    part: str
    state: State
    text: str


def examine() -> list[Finding]:
    """Everything, in the order in which it would hurt."""
    findings = [*_python(), *_home(home())]
    try:
        loaded = configuration()
    except ConfigError as problem:
        lines = str(problem).splitlines()
        return [*findings, *(Finding("settings", "wrong", line) for line in lines)]
    source = os.environ.get("FASTCHAT_CONFIG")
    findings.append(
        Finding("settings", "ok", f"from {source}" if source else "defaults and environment (no FASTCHAT_CONFIG)")
    )
    findings += [*_bus(loaded), *_databases(loaded), *_models(loaded), *_mesh(loaded), *_plugins(), *_running(loaded)]
    return findings


def _python() -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    state: State = "ok" if sys.version_info >= (3, 11) else "wrong"
    yield Finding("python", state, f"{running}; fastchat {version('fastchat')}")


def _home(folder: Path) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding("home", "wrong", f"{folder} cannot be written; set FASTCHAT_HOME")
        return
    free = shutil.disk_usage(existing).free
    text = f"{folder}, {free / (1 << 30):.1f} GiB free"
    yield Finding("home", "ok" if free >= LEAST_FREE_BYTES else "wrong", text)
    for secret in sorted([*folder.glob("*key*"), *folder.glob("keys/*")]):
        if secret.is_file() and secret.stat().st_mode & 0o077:
            yield Finding("home", "wrong", f"other users may read {secret}: run chmod 600 on it")


def _bus(loaded: Loaded) -> Iterator[Finding]:
    if loaded.origins().get("bus.url", "default") == "default":
        try:
            yield Finding("nats", "ok", f"embedded: {find_server()}")
        except NatsUnavailable as problem:
            yield Finding("nats", "wrong", str(problem))
        return
    for url in str(loaded.section("bus", BusConfig).url).split(","):
        yield _reach("nats", url.strip(), 4222)


def _databases(loaded: Loaded) -> Iterator[Finding]:
    config = loaded.section("database", DatabaseConfig)
    urls: dict[str, list[str]] = {}
    for service in SERVICES:
        try:
            url = config.url_for(service, home())
        except ConfigError as problem:
            yield Finding("database", "wrong", str(problem))
            continue
        urls.setdefault("sqlite" if is_sqlite(url) else url, []).append(service)
    for url, services in urls.items():
        names = "every service" if len(services) == len(SERVICES) else ", ".join(services)
        if url == "sqlite":
            yield Finding("database", "ok", f"{names}: SQLite, one replica each; PostgreSQL by FASTCHAT_DATABASE__URL")
        else:
            yield _reach("database", url, 5432)


def _models(loaded: Loaded) -> Iterator[Finding]:
    entries = loaded.raw("models")
    if entries:
        yield Finding("models", "ok", f"{len(entries)} in the settings, and `offline`")
        return
    told = [name for name in PROVIDER_KEYS if loaded.env.get(name)]
    if told:
        yield Finding("models", "ok", f"by {', '.join(told)}, and `offline`")
    else:
        yield Finding("models", "missing", "only `offline`: set OPENAI_API_KEY, or name models in FASTCHAT_CONFIG")


def _mesh(loaded: Loaded) -> Iterator[Finding]:
    config = loaded.section("mesh", MeshConfig)
    try:
        tls = config.tls.files()
    except ConfigError as problem:
        yield Finding("mesh", "wrong", str(problem))
        return
    state: State = "note" if tls is None else "ok"
    told = "services talk without TLS, with signed principals" if tls is None else "mutual TLS between services"
    yield Finding("mesh", state, f"profile {config.profile}; {told}")


def _plugins() -> Iterator[Finding]:
    for group in PLUGIN_GROUPS:
        for point in entry_points(group=group):
            try:
                point.load()
            except Exception as problem:
                yield Finding("plugin", "missing", f"{point.name} ({group}): {problem}")
            else:
                yield Finding("plugin", "ok", f"{point.name} ({group})")


def _running(loaded: Loaded) -> Iterator[Finding]:
    url = configured_url()
    ready, told = http_ready(url)
    if not told:
        yield from _port_is_free(url)
        return
    yield Finding("running", "ok" if ready else "wrong", f"{url} is {'ready' if ready else 'not ready'}")
    for name, state in _dependencies(told):
        if state.get("status") != "ok":
            text = f"{name}: {state.get('detail') or 'away'}; {state.get('impact') or 'nothing else is known'}"
            yield Finding("running", "missing", text)


def _dependencies(told: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from ((str(state["name"]), state) for state in told.get("dependencies", []))


def _port_is_free(url: str) -> Iterator[Finding]:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "", address.port or 80), timeout=1):
            yield Finding("port", "wrong", f"{address.netloc} is in use by something else; set FASTCHAT_EDGE__PORT")
    except OSError:
        yield Finding("port", "ok", f"{address.netloc} is free; nothing is running")


def _reach(part: str, url: str, default_port: int) -> Finding:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname or "127.0.0.1", address.port or default_port), timeout=2):
            return Finding(part, "ok", f"{mask_url(url)} answers")
    except OSError as problem:
        return Finding(part, "wrong", f"{mask_url(url)} does not answer: {problem.strerror or problem}")
