"""A call as the server's interceptors see it."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grpc
import grpc.aio

from kit.admission import CLASSES, CONTROL, INTERACTIVE, METADATA_KEY

Context = grpc.aio.ServicerContext[Any, Any]
StreamBehavior = Callable[[Any, Context], AsyncGenerator[Any, None]]

_EXEMPT = ("grpc.health.", "grpc.reflection.")


@dataclass(frozen=True)
class Method:
    """One rpc of a server; made once, when it is first called."""

    path: str
    request_streaming: bool
    response_streaming: bool

    @cached_property
    def service(self) -> str:
        """Full proto name of the service."""
        return self.path[1:].rpartition("/")[0]

    @cached_property
    def name(self) -> str:
        """Name of the rpc."""
        return self.path.rpartition("/")[2]

    @cached_property
    def exempt(self) -> bool:
        """Health and reflection: no principal, no admission, no deadline."""
        return self.service.startswith(_EXEMPT)

    @cached_property
    def watch(self) -> bool:
        """Whether the call is meant to last: a subscription, by the name Watch... ."""
        return self.name.startswith("Watch")


class ServerCall:
    """One call in progress. `code` is what telemetry reports in the end."""

    __slots__ = ("code", "context", "metadata", "method", "work_class")

    def __init__(self, method: Method, context: Context, *, trusted: bool = True) -> None:
        self.method = method
        self.context = context
        self.metadata: dict[str, str | bytes] = dict(context.invocation_metadata() or ())
        self.code = grpc.StatusCode.OK
        self.work_class = self._class(trusted)

    def text(self, key: str) -> str:
        """A metadata value that is text; empty when it is absent or binary."""
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""

    def _class(self, trusted: bool) -> str:
        """What a caller inside the mesh says; from outside everything is interactive."""
        if self.method.watch:
            return CONTROL
        told = self.text(METADATA_KEY)
        return told if trusted and told in CLASSES else INTERACTIVE
