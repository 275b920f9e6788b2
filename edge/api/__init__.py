"""The HTTP surface: one file a resource, each with `router(deps)`."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from edge.api import (
    admin_api_keys,
    admin_audit,
    admin_jobs,
    admin_model_registry,
    admin_policies,
    admin_settings,
    admin_tenants,
    admin_workspaces,
    chat,
    embeddings,
    health,
    models,
    runs,
    threads,
)
from edge.deps import EdgeDeps

ROUTERS: tuple[Callable[[EdgeDeps], APIRouter], ...] = (
    chat.router,
    models.router,
    embeddings.router,
    threads.router,
    runs.router,
    health.router,
    admin_tenants.router,
    admin_workspaces.router,
    admin_api_keys.router,
    admin_model_registry.router,
    admin_policies.router,
    admin_settings.router,
    admin_audit.router,
    admin_jobs.router,
)
"""Every resource; the most used first, since routes are matched in order."""
