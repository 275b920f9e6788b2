"""Every action that a policy can be asked about."""

from __future__ import annotations

from typing import Final

_ADMINISTERED: Final = ("tenant", "workspace", "api_key", "model", "policy", "settings", "audit", "job")

ACTIONS: Final = frozenset(
    {
        "chat.create",
        "model.call",
        "model.list",
        "embedding.create",
        "thread.read",
        "thread.write",
        "run.read",
        "run.cancel",
        "scope.export",
        "scope.erase",
        *(f"admin.{noun}.{verb}" for noun in _ADMINISTERED for verb in ("read", "write")),
    }
)
"""A bundle that names another one is refused: a misspelt `forbid` would silently forbid nothing."""
