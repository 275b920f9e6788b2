"""Is the service of this container ready? Asked where it listens."""

from __future__ import annotations

from deploy.allinone.ready import http_ready, serves
from deploy.cli.admin import configured_url
from deploy.services import configuration
from kit.mesh import MeshConfig


async def ready(service: str) -> bool:
    """Whether the edge's readiness or the service's gRPC health says so."""
    if service == "edge":
        return http_ready(configured_url())[0]
    target = configuration().section("mesh", MeshConfig).addresses.get(service, "")
    return await serves(f"127.0.0.1:{target.rsplit(':', 1)[1]}" if target.startswith("dns:") else target)
