"""The six services: where each is built, which settings it has, and which process of the all-in-one it lives in."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kit.config import Loaded, load

SERVICES = ("control", "orchestrator", "knowledge", "memory", "integration", "edge")

# LiteLLM's import and CPU must starve nobody, nor must ingestion; everything else shares one process.
PROCESSES: Mapping[str, tuple[str, ...]] = {
    "core": ("control", "orchestrator", "memory", "edge"),
    "integration": ("integration",),
    "knowledge": ("knowledge",),
}

# Set for the children of the supervisor, which says itself, once, what is wrong with the configuration.
SUPERVISED = "FASTCHAT_SUPERVISED"


def builders(names: Iterable[str]) -> dict[str, Any]:
    """Service name -> ``build`` of its composition root. Imports what the services import."""
    return {name: importlib.import_module(f"{name}.app").build for name in names}


def sections() -> dict[str, Any]:
    """Section name -> settings model, of every service and of the kit. Imports no service, only its config module."""
    from deploy.config import AllInOneConfig
    from kit.process import SECTIONS

    found: dict[str, Any] = {**SECTIONS, "allinone": AllInOneConfig}
    for name in SERVICES:
        module = importlib.import_module(f"{name}.config")
        found[name] = getattr(module, f"{name.capitalize()}Config")
    return found


def configuration(env: Mapping[str, str] | None = None) -> Loaded:
    """The configuration of this process: FASTCHAT_CONFIG under the environment. ConfigError when it is wrong."""
    return _load(sections(), env)


def sketch(env: Mapping[str, str] | None = None) -> Loaded:
    """The same with only the sections checked that the supervisor reads: it must start before others have imported."""
    from deploy.config import AllInOneConfig
    from edge.config import EdgeConfig

    others = (*SERVICES, "mesh", "bus", "database", "telemetry")
    return _load({**dict.fromkeys(others, dict[str, Any]), "edge": EdgeConfig, "allinone": AllInOneConfig}, env)


def _load(sections: Mapping[str, Any], env: Mapping[str, str] | None) -> Loaded:
    env = os.environ if env is None else env
    path = env.get("FASTCHAT_CONFIG")
    return load(Path(path) if path else None, env, sections)


def home(env: Mapping[str, str] | None = None) -> Path:
    """FASTCHAT_HOME, ``./.fastchat`` when it is not set; absolute."""
    env = os.environ if env is None else env
    return Path(env.get("FASTCHAT_HOME") or ".fastchat").resolve()


def has_tables(service: str) -> bool:
    """Whether the service has migrations."""
    return importlib.util.find_spec(f"{service}.migrations") is not None
