"""The control plane as the admin routes use it: its errors are ours, and a write is in force when it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from edge.clients import Clients, told
from edge.deps import EdgeDeps
from kit.settings import SettingsCache
from kit.telemetry import get_logger

Q = TypeVar("Q")
A = TypeVar("A")

_log = get_logger(__name__)


class Written(Protocol):
    """An answer to a write."""

    revision: int
    """Revision of the settings that has the change."""


W = TypeVar("W", bound=Written)


class ControlPlane:
    """Calls to control on behalf of the principal that is bound."""

    def __init__(self, clients: Clients, settings: SettingsCache, wait_s: float) -> None:
        self.tenants = clients.tenants
        self.api_keys = clients.api_keys
        self.model_registry = clients.model_registry
        self.policies = clients.policies
        self.settings = clients.settings
        self.audit = clients.audit
        self._cache = settings
        self._wait_s = wait_s

    @classmethod
    def of(cls, deps: EdgeDeps) -> ControlPlane:
        """The control plane of this edge."""
        return cls(deps.clients, deps.settings, deps.config.settings_wait_s)

    async def read(self, rpc: Callable[[Q], Awaitable[A]], request: Q) -> A:
        """Call; PlatformError if control refuses or cannot be reached."""
        return await told(rpc(request), "control")

    async def write(self, rpc: Callable[[Q], Awaitable[W]], request: Q) -> W:
        """Call, and wait (a little) until this edge has heard of the change, so that the next request sees it."""
        answer = await told(rpc(request), "control")
        if not await self._cache.wait_for(answer.revision, self._wait_s):
            # It is written and will arrive; only this edge has not heard of it yet.
            _log.warning("settings push is late", revision=answer.revision, waited_s=self._wait_s)
        return answer
