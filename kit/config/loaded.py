"""The layers put together: one immutable `Loaded` per process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from kit.config.env_source import PREFIX, EnvValue, canonical, env_values, parse
from kit.config.masking import mask
from kit.config.section import ConfigError
from kit.config.yaml_source import YamlDocument, read_yaml

# Sections that belong to control, which validates them entry by entry and reloads them while running.
RAW_SECTIONS = ("models", "settings")
# Variables that stand outside the sections.
RESERVED = ("FASTCHAT_HOME", "FASTCHAT_CONFIG", "FASTCHAT_BOOTSTRAP_KEY")

M = TypeVar("M", bound=BaseModel)
Origins = dict[tuple[str, ...], str]
Problem = tuple[str, str, str]


class Loaded:
    """The configuration of a process, validated; where every value came from is kept beside it."""

    def __init__(
        self,
        values: dict[str, Any],
        origins: Origins,
        document: YamlDocument | None,
        models: dict[str, Any],
        env: Mapping[str, str],
        sections: Mapping[str, Any] | None = None,
    ) -> None:
        self._sections = dict(sections or {})
        self._values = values
        self._origins = origins
        self._document = document
        self._models = models
        self.env: Mapping[str, str] = env
        """The environment, with old names of plain variables (ADMIN_API_KEY) told under the new."""
        self.path: Path | None = Path(document.name) if document else None
        """Settings file, if there is one."""

    def section(self, name: str, model: type[M]) -> M:
        """The section as a frozen model; defaults where nobody set anything. ConfigError if it does not fit."""
        found = self._models.get(name)
        if isinstance(found, model):
            return found
        return cast(M, _validate({name: model}, self._values, self._origins, self._document)[name])

    def reload(self) -> "Loaded":
        """The same layers read again, the file as it is now. ConfigError when it became invalid; this one stays."""
        return load(self.path, self.env, self._sections)

    def raw(self, name: str) -> Any:
        """The section as told, before validation ([] or {} when nobody told it)."""
        return self._values.get(name, [] if name == "models" else {})

    def line(self, *path: str | int) -> str:
        """Where a value came from, as "file:line", "env:NAME" or "default"; for errors found later."""
        return _origin(path, self._origins, self._document, near=True)

    def effective(self) -> dict[str, Any]:
        """Every setting by dotted name, secrets masked."""
        return {".".join(path): value for path, value in self._flat().items()}

    def origins(self) -> dict[str, str]:
        """For every dotted name: "default", "file:line" or "env:NAME"."""
        return {".".join(path): _origin(path, self._origins, self._document) for path in self._flat()}

    def _flat(self) -> dict[tuple[str, ...], Any]:
        flat: dict[tuple[str, ...], Any] = {}
        for name, value in {**self._values, **self._models}.items():
            plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            _flatten((name,), mask(plain, name), flat)
        return flat


def load(path: Path | None, env: Mapping[str, str], sections: Mapping[str, Any]) -> Loaded:
    """Read and validate all layers.

    `sections` maps a section's name to its model (or any type pydantic can check, such as list[ModelEntry]).
    ConfigError tells every problem at once: unknown section, unknown key, wrong type, each with its origin.
    """
    env = canonical(env)
    document = read_yaml(path) if path else None
    values: dict[str, Any] = dict(document.data) if document else {}
    known: dict[str, Any] = {**dict.fromkeys(RAW_SECTIONS), **sections}
    origins: Origins = {}
    problems: list[Problem] = []
    for name in list(values):
        if name not in known:
            message = f"unknown section; known are {', '.join(sorted(known))}"
            problems.append((_origin((name,), origins, document), str(name), message))
            del values[name]
        elif values[name] is None:
            del values[name]  # an empty section is the section with its defaults
    for setting in env_values(env, known):
        problem = _apply(setting, values, origins, known)
        if problem:
            problems.append(problem)
    if problems:
        raise ConfigError.of(problems)
    models = _validate(dict(sections), values, origins, document)
    return Loaded(values, origins, document, models, env, sections)


def _apply(setting: EnvValue, values: dict[str, Any], origins: Origins, known: Mapping[str, Any]) -> Problem | None:
    section, *rest = setting.path
    if section not in known or not rest or not all(rest):
        return (f"env:{setting.name}", "", f"unknown setting; settings are {PREFIX}<SECTION>__<KEY>")
    value = parse(setting.text, known[section], tuple(rest))
    target = values
    for part in setting.path[:-1]:
        below = target.get(part)
        below = dict(below) if isinstance(below, dict) else {}  # copied: the file's document stays as it was read
        target[part] = below
        target = below
    target[setting.path[-1]] = value
    for old in [known_path for known_path in origins if known_path[: len(setting.path)] == setting.path]:
        del origins[old]
    origins[setting.path] = f"env:{setting.name}"
    return None


def _validate(
    sections: dict[str, Any], values: dict[str, Any], origins: Origins, document: YamlDocument | None
) -> dict[str, Any]:
    models: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, kind in sections.items():
        empty: Any = [] if (get_origin(kind) or kind) is list else {}
        try:
            models[name] = TypeAdapter(kind).validate_python(values.get(name, empty), extra="forbid")
        except ValidationError as error:
            problems.extend(_problem(name, detail, origins, document) for detail in error.errors(include_url=False))
    if problems:
        raise ConfigError.of(problems)
    return models


def _problem(section: str, detail: Any, origins: Origins, document: YamlDocument | None) -> Problem:
    path = (section, *detail["loc"])
    dotted = ".".join(str(part) for part in path)
    message = "unknown setting" if detail["type"] == "extra_forbidden" else str(detail["msg"])
    return (_origin(path, origins, document, near=True), dotted, message)


def _origin(path: tuple[str | int, ...], origins: Origins, document: YamlDocument | None, *, near: bool = False) -> str:
    """Where the value came from; with `near`, the closest parent that somebody set (for errors)."""
    texts = tuple(str(part) for part in path)
    for length in range(len(texts), 0, -1):
        if texts[:length] in origins:
            return origins[texts[:length]]
    below = [origin for key, origin in origins.items() if near and key[: len(texts)] == texts]
    if below:
        return below[0]
    if document is None:
        return "default"
    steps = tuple(int(part) if isinstance(part, str) and part.isdigit() else part for part in path)
    for candidate in (tuple(path), steps):
        if candidate in document.lines:
            return f"{document.name}:{document.lines[candidate]}"
    return f"{document.name}:{document.line(steps)}" if near and steps[:1] in document.lines else "default"


def _flatten(path: tuple[str, ...], value: Any, into: dict[tuple[str, ...], Any]) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten((*path, str(key)), item, into)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            _flatten((*path, str(index)), item, into)
    else:
        into[path] = value
