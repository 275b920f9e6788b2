"""Is the service of this container ready? Asked where it listens."""

from __future__ import annotations

from deploy.allinone.ready import http_ready, serving
from deploy.cli.admin import configured_url
from deploy.services import configuration
from kit.channel import open_channel
from kit.mesh import MeshConfig


async def ready(service: str) -> bool:
    """Whether the edge's readiness, or the service's gRPC health, says so; ConfigError for a wrong configuration."""
    if service == "edge":
        return http_ready(configured_url())[0]
    mesh = configuration().section("mesh", MeshConfig)
    target = mesh.bind_of(service).replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
    channel = open_channel(target, tls=mesh.tls.files(), config=mesh.channel)
    try:
        return await serving(channel)
    finally:
        await channel.close()
