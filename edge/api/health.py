"""/health (what is degraded and what still works), /health/live (the process runs), /health/ready (send traffic)."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from edge.deps import EdgeDeps
from kit.telemetry import metrics


class Dependency(BaseModel):
    """One dependency. `impact` tells what still works without it."""

    name: str
    status: Literal["ok", "down"]
    critical: bool
    detail: str
    impact: str


class HealthReport(BaseModel):
    """How the edge is. `degraded`: ready, and something does not work."""

    status: Literal["ok", "degraded", "unavailable", "draining"]
    ready: bool
    dependencies: list[Dependency]


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


def router(deps: EdgeDeps) -> APIRouter:
    """The routes; none of them needs a key."""
    routes = APIRouter(tags=["health"])
    health = deps.health

    def report() -> HealthReport:
        found = [
            Dependency(
                name=state.name,
                status="ok" if state.ok else "down",
                critical=state.critical,
                detail=state.detail,
                impact="" if state.ok else state.impact,
            )
            for state in health.snapshot()
        ]
        status: Literal["ok", "degraded", "unavailable", "draining"]
        if health.draining:
            status = "draining"
        elif not health.ready:
            status = "unavailable"
        else:
            status = "degraded" if health.degraded else "ok"
        return HealthReport(status=status, ready=health.ready, dependencies=found)

    @routes.get("/health", response_model=HealthReport, summary="What is degraded and what still works")
    async def overview() -> object:
        return report()

    @routes.get("/health/live", response_model=Liveness, summary="Whether the process runs")
    async def live() -> object:
        return Liveness()

    @routes.get(
        "/health/ready",
        response_model=HealthReport,
        responses={503: {"model": HealthReport, "description": "Not ready."}},
        summary="Whether to send requests here",
    )
    async def ready(response: Response) -> object:
        found = report()
        if not found.ready:
            response.status_code = 503
        return found

    if deps.config.metrics:

        @routes.get("/metrics", response_model=None, summary="Metrics in Prometheus' text format")
        async def exposition() -> Response:
            # Anybody may read this port; who the tenants are is told on the metrics port of the process only.
            return Response(metrics.exposition(tenants=False), media_type="text/plain; version=0.0.4; charset=utf-8")

    return routes
