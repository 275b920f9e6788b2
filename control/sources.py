"""Configuration that is not made here: profile, settings file, environment, the built-in bundle.

`wanted` turns it into resources, `Sources` tells services what of it changed: at the start, and whenever the file does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import ValidationError

from control import entries, environment_models, locals, profiles
from control.changes import Change, Changes
from control.policy import BUILT_IN, built_in_text
from control.registry import MODEL, REGISTRY
from control.settings import DEFAULTS, ENVIRONMENT
from control.store import ModelRow, ResourceRow
from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.config import ConfigError, Loaded
from kit.crypto import Keyring
from kit.errors import PlatformError
from kit.health import Health
from kit.principal import acting_as, service_principal
from kit.settings import validate_layer
from kit.telemetry import get_logger

FILE: Final = "file"
BUILTIN: Final = "builtin"
DEPENDENCY: Final = "settings file"

_log = get_logger(__name__)
_SETTINGS = ResourceKind.RESOURCE_KIND_SETTINGS
_POLICY = ResourceKind.RESOURCE_KIND_POLICY

Key = tuple[int, str]
Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A platform resource as its source tells it, secrets in the clear."""

    kind: ResourceKind.ValueType
    name: str
    body: Mapping[str, Any]
    origin: str

    @property
    def key(self) -> Key:
        """What it is found by."""
        return (int(self.kind), self.name)


def wanted(loaded: Loaded, profile: str) -> list[Wanted]:
    """Every resource that the sources tell. ConfigError naming origin and field of each thing that is wrong."""
    models = _models(loaded)
    layer = _environment_layer(loaded, models)
    return [
        Wanted(_SETTINGS, DEFAULTS, profiles.defaults(profile), BUILTIN),
        Wanted(_SETTINGS, ENVIRONMENT, layer, ENVIRONMENT),
        Wanted(_POLICY, BUILT_IN, {"cedar": built_in_text(), "enabled": True}, BUILTIN),
        *models,
    ]


class Sources:
    """Keeps what services are told in step with the sources."""

    def __init__(
        self, loaded: Loaded, profile: str, changes: Changes, keyring: Keyring, health: Health, owner: str
    ) -> None:
        self._loaded = loaded
        self._profile = profile
        self._changes = changes
        self._keyring = keyring
        self._health = health
        self._owner = owner
        self._again = asyncio.Event()
        self._seen = _stamp(loaded)

    def check(self) -> None:
        """ConfigError if the sources are wrong, before anything is changed."""
        wanted(self._loaded, self._profile)

    def nudge(self) -> None:
        """Compare again at the next look, though the file did not change."""
        self._again.set()

    async def start(self) -> None:
        """Tell what the sources say now."""
        for name in locals.toggles(self._loaded.env):
            _log.warning("a local-model toggle is set and does nothing (spec 13.3)", variable=name)
        await self._tell(wanted(self._loaded, self._profile))
        self._health.set(DEPENDENCY, True)

    async def run(self, interval_s: float) -> None:
        """Look at the file every so often, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            stamp = await asyncio.to_thread(_stamp, self._loaded)
            if stamp == self._seen and not self._again.is_set():
                continue
            self._again.clear()
            await self._reload(stamp)

    async def _reload(self, stamp: Stamp) -> None:
        try:
            loaded = await asyncio.to_thread(self._loaded.reload)
            told = wanted(loaded, self._profile)
        except ConfigError as error:
            self._seen = stamp
            _log.error("the settings file is invalid; the former settings stay", problem=str(error))
            self._health.set(DEPENDENCY, False, str(error), "the settings from before the change are in force")
            return
        try:
            await self._tell(told)
        except PlatformError as error:
            _log.warning("settings could not be stored; trying again", why=error.message)
            return
        self._loaded, self._seen = loaded, stamp
        self._health.set(DEPENDENCY, True)

    async def _tell(self, told: Sequence[Wanted]) -> None:
        with acting_as(service_principal("control", self._owner)):
            async with self._changes.open("") as change:
                names = await self._reconcile(change, told)
                if names:
                    await change.audit("configuration.reload", "configuration", "", "", {"changed": names})
        if names:
            _log.info("configuration told", changed=names)

    async def _reconcile(self, change: Change, told: Sequence[Wanted]) -> list[str]:
        """Tell what differs; returns the names of what did."""
        current = {
            (row.kind, row.name): row
            for row in await change.unit.all(ResourceRow, tenant_id="", deleted=False)
            if row.origin != REGISTRY
        }
        registered = {row.alias for row in await change.unit.all(ModelRow, tenant_id="")}
        names = []
        for item in told:
            if item.kind == MODEL and item.name in registered:
                _log.warning("the registry has an entry of that alias, which hides this one", alias=item.name)
                continue
            if self._same(item, current.pop(item.key, None)):
                continue
            body = (
                {**entries.sealed(item.body, self._keyring, "", None), "origin": item.origin}
                if (item.kind == MODEL)
                else item.body
            )
            await change.tell(item.kind, "", item.name, body, origin=item.origin)
            names.append(item.name)
        for row in current.values():
            if row.kind == MODEL and row.name in registered:
                continue
            await change.tell(ResourceKind.ValueType(row.kind), "", row.name, None, origin=row.origin)
            names.append(row.name)
        return names

    def _same(self, item: Wanted, row: ResourceRow | None) -> bool:
        if row is None or row.origin != item.origin:
            return False
        body = orjson.loads(row.body)
        if item.kind == MODEL:
            body.pop("origin", None)
            try:
                body = entries.opened(body, self._keyring, "")
            except PlatformError:
                return False  # sealed with a key that is gone: sealed anew
        return bool(body == item.body)


def _models(loaded: Loaded) -> list[Wanted]:
    told = loaded.raw("models")
    if not isinstance(told, list):
        raise ConfigError.of([(loaded.line("models"), "models", "must be a list of entries")])
    found = {"offline": Wanted(MODEL, "offline", environment_models.OFFLINE, ENVIRONMENT)}
    if told:
        found |= {item.name: item for item in _file_models(loaded, told)}
    else:
        found |= {item.name: item for item in _environment_models(loaded)}
    circle = entries.cycle({name: item.body.get("fallbacks", []) for name, item in found.items()})
    if circle is not None:
        message = f"fallbacks go in a circle: {' -> '.join(circle)}"
        raise ConfigError.of([(loaded.line("models"), "models", message)])
    unknown = {name for item in found.values() for name in item.body.get("fallbacks", [])} - found.keys()
    if unknown:
        _log.warning("fallbacks name aliases that do not exist yet", unknown=sorted(unknown))
    return list(found.values())


def _file_models(loaded: Loaded, told: Sequence[Any]) -> list[Wanted]:
    found: dict[str, Wanted] = {}
    problems: list[tuple[str, str, str]] = []
    for index, document in enumerate(told):
        try:
            entry = entries.Entry.model_validate(document)
        except ValidationError as error:
            problems += [_problem(loaded, index, detail) for detail in error.errors(include_url=False)]
            continue
        if entry.alias in found:
            where = ("models", index, "alias")
            problems.append((loaded.line(*where), f"models.{index}.alias", f"{entry.alias} stands twice"))
        found[entry.alias] = Wanted(MODEL, entry.alias, entry.document(), FILE)
    if problems:
        raise ConfigError.of(problems)
    return list(found.values())


def _environment_models(loaded: Loaded) -> list[Wanted]:
    found = []
    for document in environment_models.entries(loaded.env):
        try:
            entry = entries.parse(document)
        except PlatformError as error:
            message = f"{document['alias']!r}: {error.message}"
            raise ConfigError.of([("env", "models", message)]) from error
        found.append(Wanted(MODEL, entry.alias, entry.document(), ENVIRONMENT))
    return found


def _problem(loaded: Loaded, index: int, detail: Any) -> tuple[str, str, str]:
    path = ("models", index, *detail["loc"])
    return (loaded.line(*path), ".".join(str(part) for part in path), entries.problem_text(detail))


def _environment_layer(loaded: Loaded, models: Sequence[Wanted]) -> dict[str, Any]:
    told = loaded.raw("settings")
    if not isinstance(told, dict):
        raise ConfigError.of([(loaded.line("settings"), "settings", "must be a mapping")])
    try:
        layer = validate_layer(told)
    except PlatformError as error:
        field = error.metadata.get("field", "")
        path = ("settings", *field.split("."))
        raise ConfigError.of([(loaded.line(*path), f"settings.{field}", error.message)]) from error
    preferences = layer.setdefault("preferences", {})
    if not preferences.get("default_model"):
        # The first model that somebody told of, else the one that is always there.
        own = [item.name for item in models if item.name != "offline" and item.body.get("mode") != "embedding"]
        preferences["default_model"] = (own or ["offline"])[0]
    return layer


def _stamp(loaded: Loaded) -> Stamp:
    """What changes when the file does; None while there is no file to be seen."""
    if loaded.path is None:
        return None
    try:
        stat = loaded.path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
