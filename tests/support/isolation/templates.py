"""Requests with places for ids: "{thread}" in a text is filled with somebody's thread."""

from __future__ import annotations

from typing import Any

from kit.ids import new_uuid
from tests.support.isolation.tenants import Ids

FRESH = "{fresh}"
"""Filled with a new UUID each time."""


def filled(template: Any, ids: Ids) -> Any:
    """A copy of a JSON-like value with every place filled."""
    if isinstance(template, dict):
        return {name: filled(value, ids) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, ids) for value in template]
    if not isinstance(template, str):
        return template
    for kind, value in ids.items():
        template = template.replace(f"{{{kind}}}", value)
    return template.replace(FRESH, new_uuid())


def has_places(text: str, kinds: Ids) -> bool:
    """Whether there is something to fill in."""
    return any(f"{{{kind}}}" in text for kind in kinds)
