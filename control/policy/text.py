"""Checks of Cedar text: it parses, each rule has an id of its own, and names only actions that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import cedarpy

from control.policy.actions import ACTIONS
from kit.errors import PlatformError

MAXIMUM_BYTES: Final = 65_536
_FIELD: Final = "cedar"
_CUT_SHORT: Final = "unexpected end of input"


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy's text, and the line (from 1) on which it begins."""

    text: str
    line: int


def check(cedar: str) -> list[str]:
    """The ids of the bundle's rules. INVALID_ARGUMENT of `cedar`, telling the line, for text that may not stand."""
    if len(cedar.encode()) > MAXIMUM_BYTES:
        raise PlatformError.invalid(_FIELD, f"Must be at most {MAXIMUM_BYTES} bytes.")
    ids: list[str] = []
    for statement in statements(cedar):
        rule = _parsed(statement)
        rule_id = rule.get("annotations", {}).get("id") or ""
        if not rule_id:
            raise _wrong(statement.line, 'A rule lacks its @id("...").')
        if rule_id in ids:
            raise _wrong(statement.line, f'The id "{rule_id}" is given twice.')
        if rule_id.startswith("builtin."):
            raise _wrong(statement.line, 'Ids that begin with "builtin." are the platform\'s own.')
        unknown = sorted(set(_actions(rule.get("action", {}))) - ACTIONS)
        if unknown:
            raise _wrong(statement.line, f"There is no action {unknown[0]}.")
        ids.append(rule_id)
    if not ids:
        raise PlatformError.invalid(_FIELD, "Holds no rule.")
    return ids


def statements(cedar: str) -> Iterator[Statement]:
    """Split at the semicolons that end policies: not those in strings and comments."""
    line = 1
    begun: int | None = None
    start = position = 0
    while position < len(cedar):
        skipped = _skip(cedar, position)
        if begun is None and not cedar[position].isspace() and not cedar.startswith("//", position):
            begun = line
        end = max(skipped, position + 1)
        line += cedar.count("\n", position, end)
        if skipped == position and cedar[position] == ";":
            yield Statement(cedar[start:end], begun or line)
            start, begun = end, None
        position = end
    if begun is not None:
        yield Statement(cedar[start:], begun)


def _skip(text: str, position: int) -> int:
    """End of the string or comment that begins here; `position` itself where none does."""
    if text.startswith("//", position):
        end = text.find("\n", position)
        return len(text) if end < 0 else end
    if text[position] != '"':
        return position
    end = position + 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    return min(end + 1, len(text))


def _parsed(statement: Statement) -> Mapping[str, Any]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement.text))
    except ValueError as error:
        raise _wrong(_line_of(statement), f"Not Cedar: {error}.") from error
    if parsed["templates"]:
        raise _wrong(statement.line, "Templates (?principal, ?resource) cannot be used here.")
    rules = list(parsed["staticPolicies"].values())
    if len(rules) != 1:
        raise _wrong(statement.line, "Expected one rule up to the semicolon.")
    rule: Mapping[str, Any] = rules[0]
    return rule


def _line_of(statement: Statement) -> int:
    """The first line with which the text is more than cut short: Cedar's parser tells no position."""
    lines = statement.text.splitlines()
    for count in range(1, len(lines)):
        try:
            cedarpy.policies_to_json_str("\n".join(lines[:count]))
        except ValueError as error:
            if _CUT_SHORT not in str(error) and "invalid token" not in str(error):
                return _offset(statement, lines, count)
    return _offset(statement, lines, len(lines))


def _offset(statement: Statement, lines: list[str], count: int) -> int:
    """Line in the bundle of the statement's `count`-th line. Blank lines and comments may stand before its begin."""
    before = next(index for index, line in enumerate(lines) if line.strip() and not line.strip().startswith("//"))
    return statement.line + max(0, count - 1 - before)


def _actions(scope: Mapping[str, Any]) -> Iterator[str]:
    entities = [scope["entity"]] if "entity" in scope else scope.get("entities", [])
    for entity in entities:
        yield str(entity["id"])


def _wrong(line: int, message: str) -> PlatformError:
    error = PlatformError.invalid(_FIELD, f"Line {line}: {message}")
    error.metadata["line"] = str(line)
    return error
