"""What the routes of edge/api and the servicers of edge/gateway are built from: made once, in edge/app.py.

Conventions:
- a module of edge/api has `def router(deps: EdgeDeps) -> APIRouter` and is listed in edge/api/__init__.py;
- edge/gateway has `def registrations(deps: EdgeDeps)` and `SERVICE_NAMES`;
- when a handler runs the caller is already authenticated, scoped ("admin" below /v1/admin, else "chat") and
  counted by the rate limit: `edge.auth.identity(request.scope)` tells who, `kit.principal.current()` is bound;
- handlers raise PlatformError; edge/middleware/errors.py renders it;
- whoever streams holds `with deps.limits.stream(who):` around the stream (concurrent streams).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.answering import Answers

if TYPE_CHECKING:
    from edge.auth import Authenticator
    from edge.clients import Clients
    from edge.config import EdgeConfig
    from edge.history import History
    from edge.limits import Limits
    from edge.threads import Threads
    from kit.audit import Audit
    from kit.crypto import Keyring
    from kit.db import Database
    from kit.health import Health
    from kit.mesh import Mesh
    from kit.policy import PolicyEngine
    from kit.settings import SettingsCache


@dataclass(frozen=True, slots=True)
class EdgeDeps:
    """Everything a handler may use. All of it lives as long as the service."""

    mesh: Mesh
    config: EdgeConfig
    clients: Clients
    settings: SettingsCache
    policy: PolicyEngine
    audit: Audit
    database: Database
    keyring: Keyring
    threads: Threads
    history: History
    authenticator: Authenticator
    limits: Limits
    health: Health
    answers: Answers = field(default_factory=Answers)
