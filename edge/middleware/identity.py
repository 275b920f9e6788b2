"""Authenticates everything below /v1/, checks the scope of the route, and binds the principal."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from edge.auth.authenticator import HEADERS, Authenticator
from edge.auth.identity import ADMIN, CHAT, SCOPE_KEY
from kit.principal import acting_as

_READ: Final = frozenset(name.encode() for name in HEADERS)
_ADMIN_PATH: Final = "/v1/admin"


class Identity:
    """Leaves the `Authenticated` in the scope; handlers read it by `edge.auth.identity(request.scope)`."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        caller = await self._authenticator.authenticate(headers)
        caller.require(ADMIN if path == _ADMIN_PATH or path.startswith(_ADMIN_PATH + "/") else CHAT)
        scope[SCOPE_KEY] = caller
        with acting_as(caller.principal):
            await self._app(scope, receive, send)
