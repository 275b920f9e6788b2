"""The smallest value that a JSON schema allows, always the same."""

from __future__ import annotations

from typing import Any

from integration.models.port import Json

_TEXT = "offline model, not an AI"
_FORMATS = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "offline@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.org/",
}
_DEPTH = 12


def example(schema: Json) -> Any:
    """A value of the schema. Patterns are not solved: a text is given that may not match one."""
    return _value(schema, schema, 0)


def _value(schema: Any, root: Json, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEPTH:
        return None
    if "$ref" in schema:
        return _value(_resolved(str(schema["$ref"]), root), root, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _value(schema[key][0] if key != "allOf" else _merged(schema[key]), root, depth + 1)
    return _of_type(schema, root, depth)


def _resolved(reference: str, root: Json) -> Any:
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            node = node.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, dict) else {}
    return node


def _merged(schemas: list[Json]) -> Json:
    merged: Json = {}
    for schema in schemas:
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        merged = {**merged, **schema, **({"properties": properties} if properties else {})}
    return merged


def _of_type(schema: Json, root: Json, depth: int) -> Any:
    kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _value(part, root, depth + 1) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [_value(schema.get("items", {}), root, depth + 1)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        return _number(schema)
    return {"boolean": True, "null": None}.get(kind, _text(schema)) if kind != "string" else _text(schema)


def _number(schema: Json) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    if low is not None:
        return int(low) + ("exclusiveMinimum" in schema)
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    return 1 if high is None or high > 1 else int(high) - 1


def _text(schema: Json) -> str:
    text = _FORMATS.get(schema.get("format", ""), _TEXT)
    text = text.ljust(schema.get("minLength", 0), ".")
    return text[: schema["maxLength"]] if "maxLength" in schema else text
