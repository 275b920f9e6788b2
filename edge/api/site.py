"""The ASGI application: routes, their documentation, and the middlewares around them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.types import Scope

from edge.api import ROUTERS, errors
from edge.auth.identity import SCOPE_KEY, identity
from edge.deps import EdgeDeps
from edge.middleware.admission import Admitted
from edge.middleware.body_limit import BodyLimit
from edge.middleware.cors import Cors
from edge.middleware.errors import Errors
from edge.middleware.identity import Identity
from edge.middleware.rate_limit import RateLimit
from edge.middleware.request_id import RequestId
from edge.middleware.response_start import ResponseStart
from edge.middleware.telemetry import Telemetry
from edge.middleware.timeouts import Timeouts
from edge.pushed import Pushed
from kit.admission import Admission

_DESCRIPTION = (
    "OpenAI-compatible chat, models and embeddings, threads, and administration. "
    "Send an API key or an issuer's token as `Authorization: Bearer ...`. "
    'Every error has the shape `{"error": {message, type, param, code}}`.'
)
# The framework's own spans and logs would double ours, and carry exception texts.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
_OPEN_PATHS = ("/health", "/metrics")


def build(deps: EdgeDeps, pushed: Pushed, admission: Admission) -> FastAPI:
    """Everything that the edge serves over HTTP."""
    documented = deps.config.docs
    app = FastAPI(
        title="Fast-Chat",
        version=version("fastchat"),
        description=_DESCRIPTION,
        docs_url="/docs" if documented else None,
        redoc_url=None,
        openapi_url="/openapi.json" if documented else None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        middleware=middlewares(deps, pushed, admission),
    )
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router(deps))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents
    return app


def middlewares(deps: EdgeDeps, pushed: Pushed, admission: Admission) -> list[Middleware]:
    """Outermost first. What is refused early must still be counted, and readable by browsers."""
    config = deps.config

    def body_limit(scope: Scope) -> int:
        own = pushed.max_body_bytes(identity(scope)) if SCOPE_KEY in scope else None
        return config.max_body_bytes if own is None else min(own, config.max_body_bytes)

    return [
        Middleware(ResponseStart),
        Middleware(RequestId),
        Middleware(Telemetry),
        Middleware(Cors, config=config.cors),
        Middleware(Errors),
        Middleware(Admitted, admission=admission),
        Middleware(Timeouts, config=config.timeouts),
        Middleware(Identity, authenticator=deps.authenticator),
        Middleware(RateLimit, limits=deps.limits),
        Middleware(BodyLimit, limit=body_limit),
    ]


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        app.openapi_schema = _true(schema)
    return app.openapi_schema


def _true(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the edge really behaves: keys, and errors in one shape with 400 instead of 422."""
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "API key, or JWT of a configured issuer."},
        "admin_key": {"type": "apiKey", "in": "header", "name": "X-Admin-Key", "description": "Synonym of Bearer."},
    }
    answer = {
        "description": "Error.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for path, operations in schema.get("paths", {}).items():
        for operation in operations.values():
            responses = operation.setdefault("responses", {})
            responses.pop("422", None)
            if not path.startswith(_OPEN_PATHS):
                admin = path.startswith("/v1/admin")
                operation["security"] = [{"bearer": []}, *([{"admin_key": []}] if admin else [])]
                responses["default"] = answer
    return schema


_ERROR: dict[str, Any] = {
    "title": "Error",
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
