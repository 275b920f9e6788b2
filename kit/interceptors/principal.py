"""Who calls: verified from metadata and bound to the call's task."""

from collections.abc import Awaitable, Callable

from fastchat.common.v1.principal_pb2 import Principal
from kit import principal as principals
from kit.errors import PlatformError, Reason
from kit.interceptors.call import ServerCall

Authenticate = Callable[[ServerCall], Awaitable[Principal]]
"""Finds out who calls; raises PlatformError when nobody that may. A public port passes its own (API key, bearer)."""


def mesh_authentication(verifier: principals.Verifier) -> Authenticate:
    """The mesh's own: a SignedPrincipal in `fc-principal-bin`."""

    async def authenticate(call: ServerCall) -> Principal:
        blob = call.metadata.get(principals.METADATA_KEY)
        if not isinstance(blob, bytes) or not blob:
            raise PlatformError(Reason.MISSING_CREDENTIALS, "No credentials were sent.")
        return verifier.verify(blob)

    return authenticate
