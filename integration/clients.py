"""The services that integration calls: control's settings."""

from __future__ import annotations

from collections.abc import Sequence

from fastchat.control.v1.settings_service_pb2 import ResourceKind
from kit.mesh import Mesh
from kit.settings import SettingsCache, watch_settings


async def follow_control(
    mesh: Mesh, cache: SettingsCache, service: str, kinds: Sequence[ResourceKind.ValueType]
) -> None:
    """Keep the cache in step with control until cancelled; the last state is kept in the service's folder."""
    kept = mesh.home / service / "settings.pb"
    await watch_settings(mesh.channel("control"), cache, kept, f"{service}/{mesh.replica}", kinds)
