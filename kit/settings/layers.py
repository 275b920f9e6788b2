"""The merge of settings layers (spec 13.1): one pure function."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from kit.errors import PlatformError
from kit.settings.globs import intersect, normalize
from kit.settings.schema import TenantSettings, fields

BUILT_IN = "built-in"
"""Origin of a field that no layer told."""

_FIELDS = fields()


@dataclass(frozen=True)
class Effective:
    """Merged settings. `values` is the nested document; `origins` maps each dotted field to the layer that decided it.

    An allow-list narrowed by several layers names them all, joined by "+".
    """

    values: dict[str, Any]
    origins: dict[str, str]

    @cached_property
    def settings(self) -> TenantSettings:
        """The values as the frozen model."""
        return TenantSettings.model_validate(self.values)


def merge_layers(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> Effective:
    """Merge (name, document) pairs, the weakest first.

    Limits narrow: minimum, AND, intersection, whatever the order. Preferences: the last layer that tells one wins.
    None and fields this release does not know count as not told.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for field, (default, narrows) in _FIELDS.items():
        group, name = field.split(".")
        told = [(layer, document[group][name]) for layer, document in layers if _tells(document, group, name)]
        value, origin = _narrowest(told, default) if narrows else _last(told, default)
        values.setdefault(group, {})[name] = copy.copy(value)
        origins[field] = origin
    return Effective(values, origins)


def validate_layer(document: Mapping[str, Any]) -> dict[str, Any]:
    """A layer as it may be stored: only what it tells, converted. INVALID_ARGUMENT naming the field that is wrong."""
    try:
        model = TenantSettings.model_validate(document, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "settings"
        message = "unknown setting" if first["type"] == "extra_forbidden" else str(first["msg"])
        raise PlatformError.invalid(field, message) from error
    return model.model_dump(mode="json", exclude_unset=True)


def _tells(document: Mapping[str, Any], group: str, name: str) -> bool:
    section = document.get(group)
    return isinstance(section, Mapping) and section.get(name) is not None


def _last(told: list[tuple[str, Any]], default: Any) -> tuple[Any, str]:
    layer, value = told[-1] if told else (BUILT_IN, default)
    return value, layer


def _narrowest(told: list[tuple[str, Any]], default: Any) -> tuple[Any, str]:
    if not told:
        return default, BUILT_IN
    if isinstance(told[0][1], list):
        return _intersection(told)
    # False is less than True, so AND is the minimum too. Of equals, the weaker layer decided.
    layer, value = min(told, key=lambda pair: pair[1])
    if default is not None and not value < default:
        return default, layer if value == default else BUILT_IN
    return value, layer


def _intersection(told: list[tuple[str, list[str]]]) -> tuple[list[str], str]:
    first, *rest = told
    names, value = [first[0]], normalize(first[1])
    for layer, globs in rest:
        narrower = intersect(value, globs)
        if narrower != value:
            names.append(layer)
            value = narrower
    return value, "+".join(names)
