"""The environment layer: FASTCHAT_<SECTION>__<KEY>[__<SUB>], and the names that the original Fast-Chat used."""

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

PREFIX = "FASTCHAT_"

# Old name -> (section, path). Names without a single target (OPENAI_API_KEY, MODEL_FALLBACK_CHAIN ...) stay in
# Loaded.env, where control derives model entries from them.
LEGACY: Mapping[str, tuple[str, ...]] = {
    "DATABASE_URL": ("database", "url"),
    "DEFAULT_MODEL": ("settings", "preferences", "default_model"),
    "CORS_ORIGINS": ("edge", "cors", "origins"),
    "LOG_LEVEL": ("telemetry", "log_level"),
    "LOG_FORMAT": ("telemetry", "log_format"),
}

# Old name -> new name, both plain variables that are no setting.
RENAMED: Mapping[str, str] = {"ADMIN_API_KEY": "FASTCHAT_BOOTSTRAP_KEY"}


@dataclass(frozen=True)
class EnvValue:
    """One variable and the place that it sets."""

    name: str
    path: tuple[str, ...]
    text: str


def canonical(env: Mapping[str, str]) -> dict[str, str]:
    """A copy of the environment in which renamed variables have their new name (the new one wins)."""
    result = dict(env)
    for old, new in RENAMED.items():
        if env.get(old) and not env.get(new):
            result[new] = env[old]
    return result


def env_values(env: Mapping[str, str], sections: Mapping[str, Any]) -> Iterator[EnvValue]:
    """Settings told by the environment; old names first, so that the new ones win."""
    for name, path in LEGACY.items():
        if env.get(name) and path[0] in sections:
            yield EnvValue(name, path, env[name])
    for name in sorted(env):
        if name.startswith(PREFIX) and "__" in name:
            path = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
            yield EnvValue(name, path, env[name])


def parse(text: str, kind: Any, path: tuple[str, ...]) -> Any:
    """The variable's text as the value that the field at `path` below `kind` wants.

    Numbers and booleans stay text (pydantic converts them); a list is JSON or separated by commas; a mapping is JSON.
    Where no model says what is wanted, the text is read as YAML.
    """
    wanted = _field_type(kind, path)
    if wanted is None:
        return _yaml(text)
    origin = typing.get_origin(wanted) or wanted
    if origin in (list, tuple, set, frozenset):
        if text.lstrip().startswith("["):
            return _json(text)
        return [part.strip() for part in text.split(",") if part.strip()]
    if origin is dict or (isinstance(origin, type) and issubclass(origin, (BaseModel, Mapping))):
        return _json(text)
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the validator says what was expected, with the variable's name


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _field_type(kind: Any, path: tuple[str, ...]) -> Any:
    """Annotation of the field, optional stripped; None where the models do not tell."""
    for part in path:
        kind = _strip_optional(kind)
        origin = typing.get_origin(kind) or kind
        if isinstance(origin, type) and issubclass(origin, BaseModel):
            found = origin.model_fields.get(part)
            if found is None:
                return str
            kind = found.annotation
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            arguments = typing.get_args(kind)
            kind = arguments[1] if len(arguments) == 2 else None
        else:
            return None
    kind = _strip_optional(kind)
    return None if kind is typing.Any else kind


def _strip_optional(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return options[0] if len(options) == 1 else str
    return kind
