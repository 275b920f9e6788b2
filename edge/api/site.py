"""The ASGI application: routes, their documentation, and the middlewares around them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.types import Scope

from edge.api import ROUTERS, errors, schema
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
        app.openapi_schema = schema.document(app)
    return app.openapi_schema
