"""The OpenAPI document: what FastAPI found out, made true (400 instead of 422, keys, errors, answers)."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from edge.api.answers import CONTENT, PARAMETERS, SCHEMAS

_OPEN_PATHS = ("/health", "/metrics")
_ADMIN_PATH = "/v1/admin"
_FRAMEWORK = ("HTTPValidationError", "ValidationError")

ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "API key, or JWT of a configured issuer."},
    "admin_key": {"type": "apiKey", "in": "header", "name": "X-Admin-Key", "description": "Synonym of Bearer."},
}
_FAILED = {
    "description": "Error; `Retry-After` tells when to ask again.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The document of the application, as JSON."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _FRAMEWORK:
        schemas.pop(name, None)
    schemas.update(SCHEMAS, Error=ERROR)
    components["securitySchemes"] = _SECURITY
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, path)
    return schema


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)
    if (method, path) in CONTENT:
        status, content = CONTENT[method, path]
        described = responses.setdefault(status, {"description": "Success."})
        described["content"] = {kind: {"schema": schema} for kind, schema in content.items()}
    operation.setdefault("parameters", []).extend(PARAMETERS.get((method, path), []))
    if path.startswith(_OPEN_PATHS):
        return
    operation["security"] = [{"bearer": []}]
    if path.startswith(_ADMIN_PATH):
        operation["security"].append({"admin_key": []})
    responses["default"] = _FAILED
