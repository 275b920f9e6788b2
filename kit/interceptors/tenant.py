"""The tenant guard: a request that names a tenant must name the caller's own."""

from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason
from kit.principal import PLATFORM

FIELD = "tenant_id"
_DEPTH = 4

M = TypeVar("M", bound=Message)


def check(request: Any, principal: Principal) -> None:
    """POLICY_DENIED unless every tenant that the request names is the principal's, or its scope is platform.

    The text is the same whatever the tenant is, so that nobody learns which tenants exist.
    """
    if not isinstance(request, Message):
        return
    paths = tenant_paths(request.DESCRIPTOR)
    if not paths or PLATFORM in principal.scopes:
        return
    for path in paths:
        named = _value(request, path)
        if named and named != principal.tenant_id:
            raise PlatformError(Reason.POLICY_DENIED, "The request is for another tenant.", rule="tenant-guard")


async def checked(requests: AsyncIterator[M], principal: Principal) -> AsyncIterator[M]:
    """The requests of a client stream, each checked."""
    async for request in requests:
        check(request, principal)
        yield request


@cache
def tenant_paths(descriptor: Descriptor) -> tuple[tuple[str, ...], ...]:
    """Where a message can name a tenant: itself and the single messages inside it, such as ("scope", "tenant_id")."""
    return tuple(_walk(descriptor, (), ()))


def _walk(descriptor: Descriptor, path: tuple[str, ...], above: tuple[Descriptor, ...]) -> Iterator[tuple[str, ...]]:
    if descriptor in above or len(path) >= _DEPTH:
        return
    for field in descriptor.fields:
        if field.is_repeated:
            continue
        if field.name == FIELD and field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, FIELD)
        elif field.message_type is not None:
            yield from _walk(field.message_type, (*path, field.name), (*above, descriptor))


def _value(message: Message, path: tuple[str, ...]) -> str:
    found: Any = message
    for name in path:
        found = getattr(found, name)
    return str(found)
