"""Checks of JSON values, each naming the field in OpenAI's style (`messages[0].content`).

Hand-written, because a model class costs more per request than the whole rest of the parse.
Every check raises INVALID_ARGUMENT; `None` means that the field is absent or null.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import orjson

from kit.errors import PlatformError, Reason

Json = dict[str, Any]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")

_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def parse_object(body: bytes) -> Json:
    """Parse a request body that must be a JSON object; else MALFORMED_REQUEST."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PlatformError(
            Reason.MALFORMED_REQUEST,
            f"We could not parse the JSON body of your request: {error.msg} "
            f"at line {error.lineno}, column {error.colno}.",
            line=str(error.lineno),
            column=str(error.colno),
        ) from None
    if type(value) is not dict:
        raise PlatformError(
            Reason.MALFORMED_REQUEST, f"The body must be a JSON object, but it is {_KINDS[type(value)]}."
        )
    return value


def wrong_type(path: str, expected: str, value: object) -> NoReturn:
    """Raise: the value has another type than expected."""
    got = _KINDS.get(type(value), "something else")
    raise PlatformError.invalid(path, f"Invalid type for '{path}': expected {expected}, but got {got} instead.")


def wrong_value(path: str, message: str) -> NoReturn:
    """Raise: the type is right, the value is not."""
    raise PlatformError.invalid(path, f"Invalid value for '{path}': {message}")


def missing(path: str) -> NoReturn:
    """Raise: a required field is absent."""
    raise PlatformError.invalid(path, f"Missing required parameter: '{path}'.")


def unsupported(path: str, message: str) -> NoReturn:
    """Raise UNSUPPORTED_FEATURE: we understand the field and cannot do it."""
    raise PlatformError(Reason.UNSUPPORTED_FEATURE, message, field=path, feature=path.rpartition(".")[2])


def not_implemented(path: str, capability: str, message: str) -> NoReturn:
    """Raise NOT_IMPLEMENTED: the capability is planned and not there yet."""
    raise PlatformError(Reason.NOT_IMPLEMENTED, message, field=path, capability=capability)


def string(value: object, path: str, *, longest: int | None = None, empty: bool = True) -> str:
    """A string, not longer than `longest` characters."""
    if type(value) is not str:
        wrong_type(path, "a string", value)
    if not empty and not value:
        wrong_value(path, "it must not be empty.")
    if longest is not None and len(value) > longest:
        wrong_value(path, f"it has {len(value)} characters, and {longest} is the most.")
    return value


def optional_string(source: Mapping[str, Any], name: str, path: str = "", *, longest: int | None = None) -> str:
    """A string field; "" when absent or null."""
    value = source.get(name)
    return "" if value is None else string(value, path or name, longest=longest)


def boolean(source: Mapping[str, Any], name: str, path: str = "") -> bool | None:
    """A boolean field."""
    value = source.get(name)
    if value is not None and type(value) is not bool:
        wrong_type(path or name, "a boolean", value)
    return value


def integer(source: Mapping[str, Any], name: str, low: int, high: int, path: str = "") -> int | None:
    """An integer field within [low, high]."""
    value = source.get(name)
    if value is None:
        return None
    if type(value) is not int:
        wrong_type(path or name, "an integer", value)
    if not low <= value <= high:
        wrong_value(path or name, f"expected an integer from {low} to {high}, but got {value} instead.")
    return value


def number(source: Mapping[str, Any], name: str, low: float, high: float, path: str = "") -> float | None:
    """A number field within [low, high]."""
    value = source.get(name)
    if value is None:
        return None
    if type(value) is not float and type(value) is not int:
        wrong_type(path or name, "a number", value)
    if not low <= value <= high:
        wrong_value(path or name, f"expected a number from {low:g} to {high:g}, but got {value} instead.")
    return float(value)


def choice(value: object, path: str, allowed: Collection[str]) -> str:
    """A string out of a closed set."""
    if type(value) is not str:
        wrong_type(path, "a string", value)
    if value not in allowed:
        names = ", ".join(f"'{name}'" for name in allowed)
        wrong_value(path, f"supported values are {names}, but got '{value[:64]}' instead.")
    return value


def array(value: object, path: str, *, fewest: int = 0, most: int | None = None) -> list[Any]:
    """An array of at least `fewest` and at most `most` items."""
    if type(value) is not list:
        wrong_type(path, "an array", value)
    if len(value) < fewest:
        wrong_value(path, f"expected at least {fewest} item{'s' if fewest > 1 else ''}, but got {len(value)} instead.")
    if most is not None and len(value) > most:
        wrong_value(path, f"expected at most {most} items, but got {len(value)} instead.")
    return value


def obj(value: object, path: str) -> Json:
    """An object."""
    if type(value) is not dict:
        wrong_type(path, "an object", value)
    return value


def only(source: Mapping[str, Any], allowed: Collection[str], path: str = "") -> None:
    """Refuse unknown fields: a field that is silently ignored misleads its sender."""
    for name in source:
        if name not in allowed:
            full = f"{path}.{name}" if path else name
            raise PlatformError.invalid(full, f"Unknown parameter: '{full}'.")


def function_name(value: object, path: str) -> str:
    """The name of a function or schema: letters, digits, `_` and `-`, at most 64."""
    name = string(value, path)
    if not NAME.match(name):
        wrong_value(path, "expected 1 to 64 of a-z, A-Z, 0-9, underscore and dash.")
    return name


def dumps(value: object) -> str:
    """JSON text of a parsed value, key order kept."""
    return orjson.dumps(value).decode()
