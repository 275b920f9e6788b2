"""Who calls: API key or JWT from the call's metadata, with the scope that chat needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from edge.auth import Authenticated
from edge.auth.authenticator import HEADERS
from edge.auth.identity import CHAT

if TYPE_CHECKING:
    from edge.deps import EdgeDeps

Context = grpc.aio.ServicerContext[Any, Any]


async def caller(deps: EdgeDeps, context: Context) -> Authenticated:
    """Authenticate the call; MISSING_CREDENTIALS, INVALID_API_KEY, EXPIRED_CREDENTIALS or MISSING_SCOPE."""
    headers = {
        str(name): value if isinstance(value, str) else value.decode("latin-1")
        for name, value in context.invocation_metadata() or ()
        if name in HEADERS
    }
    who = await deps.authenticator.authenticate(headers)
    who.require(CHAT)
    return who
