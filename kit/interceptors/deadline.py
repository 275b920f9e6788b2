"""Deadlines: what the caller allows, at most what the server allows, inherited by every call made on the way."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from pydantic import Field

from kit import deadline
from kit.config import Section
from kit.errors import PlatformError, Reason
from kit.interceptors.call import Method, ServerCall


class DeadlineConfig(Section):
    """The longest a call may last on the server, in seconds; 0: no limit. Subscriptions (Watch...) have none."""

    unary_s: float = Field(default=120.0, ge=0)
    """Calls with one answer."""
    stream_s: float = Field(default=3600.0, ge=0)
    """Calls that stream."""
    methods: Mapping[str, float] = Field(default_factory=dict)
    """By method name ("StartRun") or full path, over the two."""

    def limit(self, method: Method) -> float:
        """Seconds for a method; 0: none."""
        told = self.methods.get(method.path, self.methods.get(method.name))
        if told is not None:
            return told
        if method.watch:
            return 0.0
        return self.stream_s if method.response_streaming or method.request_streaming else self.unary_s


@asynccontextmanager
async def bounded(call: ServerCall, limit_s: float) -> AsyncIterator[None]:
    """Bind the call's deadline, and cancel the handler when the server's own limit passes first.

    The caller's deadline needs no timer here: gRPC cancels the handler at it.
    """
    told = call.context.time_remaining()
    if told is not None and (not limit_s or told <= limit_s):
        deadline.bind(told)
        yield
        return
    if not limit_s:
        yield
        return
    deadline.bind(limit_s)
    try:
        async with asyncio.timeout(limit_s) as scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise  # a timeout of the handler's own that it did not handle
        message = f"The call took longer than the {limit_s:g} s that the server allows."
        raise PlatformError(Reason.DEADLINE_EXCEEDED, message, deadline_s=f"{limit_s:g}") from error
