"""Who sent a request: what authentication yields and every route and servicer reads."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, NewType

from fastchat.common.v1.principal_pb2 import Principal
from kit.errors import PlatformError, Reason

SCOPE_KEY: Final = "fastchat.identity"
"""Key of the ASGI scope under which the identity middleware leaves the `Authenticated`."""

KeyHash = NewType("KeyHash", str)

CHAT: Final = "chat"
ADMIN: Final = "admin"
PLATFORM: Final = "platform"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as control pushed it. Times are Unix seconds, 0.0: never."""

    id: str
    tenant_id: str
    workspace_id: str
    subject: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    expires_at: float = 0.0
    revoked_at: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    act_for: bool = False


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The caller of one request.

    `key_settings` is the settings layer of the API key, empty for bearer tokens; give it to
    `SettingsCache.effective(..., extra=key_settings)`. `key` is None for bearer tokens.
    """

    principal: Principal
    key_settings: Mapping[str, Any]
    key: KeyRecord | None = None

    @property
    def is_platform(self) -> bool:
        """Whether the caller may touch every tenant."""
        return PLATFORM in self.principal.scopes

    def require(self, scope: str) -> None:
        """MISSING_SCOPE unless the caller holds `scope` (the platform scope implies all)."""
        if scope not in self.principal.scopes and not self.is_platform:
            raise PlatformError(Reason.MISSING_SCOPE, f"this credential lacks the scope '{scope}'", scope=scope)


def identity(scope: MutableMapping[str, Any]) -> Authenticated:
    """The caller of the request with this ASGI scope (`request.scope`). MISSING_CREDENTIALS if nobody was told."""
    found = scope.get(SCOPE_KEY)
    if not isinstance(found, Authenticated):
        raise PlatformError(Reason.MISSING_CREDENTIALS, "no API key or token was sent")
    return found
