"""What a service knows of control's state, and how old that knowledge is."""

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastchat.control.v1.settings_service_pb2 import Resource, ResourceKind, WatchSettingsResponse
from kit.errors import PlatformError, Reason
from kit.settings.layers import Effective, merge_layers
from kit.settings.schema import TenantSettings

Key = tuple[int, str, str, str]
Owner = tuple[int, str]
OnChange = Callable[[list[Resource]], None]

# Platform layers in order; a platform layer of another name comes after them.
_PLATFORM_LAYERS = ("defaults", "environment")
_MEMO_LIMIT = 20_000


class SettingsCache:
    """Resources by kind and owner. Reads are plain calls on the event loop; only `apply` changes anything.

    `age_s` counts from control's last sign of life, across restarts of this process.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._resources: dict[Key, Resource] = {}
        self._by_owner: dict[Owner, dict[Key, Resource]] = {}
        self._parts: list[Resource] = []
        self._heard_at: float | None = None
        self._memo: dict[tuple[str, str, str], Effective] = {}
        self._callbacks: list[OnChange] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.revision = 0
        """Revision of control's state that is applied; 0: nothing yet."""

    @property
    def age_s(self) -> float:
        """Seconds since control was last heard of; infinite before the first time."""
        return float("inf") if self._heard_at is None else max(0.0, self._clock() - self._heard_at)

    @property
    def heard_at(self) -> float | None:
        """When control was last heard of, Unix seconds."""
        return self._heard_at

    def resources(self, kind: ResourceKind.ValueType, tenant_id: str) -> list[Resource]:
        """Resources of the owner ("" is the platform), workspaces' included, in order of name."""
        owned = self._by_owner.get((kind, tenant_id), {})
        return sorted(owned.values(), key=lambda resource: (resource.workspace_id, resource.name))

    def get(self, kind: ResourceKind.ValueType, tenant_id: str, name: str, workspace_id: str = "") -> Resource | None:
        """One resource, or None."""
        return self._resources.get((kind, tenant_id, workspace_id, name))

    def effective(
        self, tenant_id: str, workspace_id: str = "", extra: Mapping[str, Any] | None = None
    ) -> TenantSettings:
        """Merged settings of the scope; `extra` is one more layer on top, such as an API key's own."""
        return self.merged(tenant_id, workspace_id, extra).settings

    def merged(self, tenant_id: str, workspace_id: str = "", extra: Mapping[str, Any] | None = None) -> Effective:
        """Merged settings with the origin of each field. Kept until the next change."""
        memo_key = (tenant_id, workspace_id, json.dumps(extra, sort_keys=True) if extra else "")
        found = self._memo.get(memo_key)
        if found is None:
            layers = self._layers(tenant_id, workspace_id)
            found = merge_layers([*layers, ("key", extra)] if extra else layers)
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            self._memo[memo_key] = found
        return found

    def require_fresh(self, tenant_id: str = "") -> None:
        """SETTINGS_STALE when the cache is older than the profile (or the tenant) allows, or was never filled."""
        limit = self.effective(tenant_id).security.max_staleness_s
        if self.revision == 0:
            raise PlatformError(Reason.SETTINGS_STALE, "The service has no settings yet.", retry_after_s=1.0)
        if limit is not None and self.age_s > limit:
            message = "The settings are older than allowed, and the control plane is away."
            ages = {"age_s": str(int(self.age_s)), "max_s": str(int(limit))}
            raise PlatformError(Reason.SETTINGS_STALE, message, retry_after_s=5.0, **ages)

    async def wait_for(self, revision: int, timeout_s: float = 1.0) -> bool:
        """Wait until the revision is applied; False when the time is over first."""
        if self.revision >= revision:
            return True
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (revision, reached)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await reached
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)
        return True

    def on_change(self, callback: OnChange) -> Callable[[], None]:
        """Call back after every change with what changed (deleted ones marked). Returns the way to stop."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def apply(self, batch: WatchSettingsResponse) -> bool:
        """Take in what control sent; returns whether anything changed.

        A snapshot that does not fit one message comes as parts without a revision before the batch marked `snapshot`.
        """
        self._heard_at = self._clock()
        if not batch.snapshot and batch.revision == 0:
            self._parts.extend(batch.resources)
            return False
        if batch.snapshot:
            changed = self._replace([*self._parts, *batch.resources])
            self._parts = []
        else:
            changed = [resource for resource in batch.resources if self._put(resource)]
        moved = batch.revision != self.revision
        self.revision = batch.revision
        if changed:
            self._memo.clear()
        self._tell(changed)
        return bool(changed) or moved

    def restore(self, state: WatchSettingsResponse, heard_at: float) -> None:
        """Take in a state saved by an earlier process, as old as it is."""
        self.apply(state)
        self._heard_at = heard_at

    def state(self) -> WatchSettingsResponse:
        """Everything, as one snapshot."""
        return WatchSettingsResponse(resources=self._resources.values(), revision=self.revision, snapshot=True)

    def _layers(self, tenant_id: str, workspace_id: str) -> list[tuple[str, dict[str, Any]]]:
        kind = ResourceKind.RESOURCE_KIND_SETTINGS
        platform = {resource.name: resource for resource in self.resources(kind, "")}
        names = [name for name in _PLATFORM_LAYERS if name in platform]
        names += [name for name in platform if name not in _PLATFORM_LAYERS]
        layers = [(name, platform[name]) for name in names]
        if tenant_id:
            owned = self.resources(kind, tenant_id)
            layers += [("tenant", resource) for resource in owned if not resource.workspace_id]
            if workspace_id:
                layers += [("workspace", resource) for resource in owned if resource.workspace_id == workspace_id]
        return [(name, json.loads(resource.body_json)) for name, resource in layers]

    def _replace(self, resources: Iterable[Resource]) -> list[Resource]:
        new = {_key(resource): resource for resource in resources if not resource.deleted}
        gone = []
        for key, resource in self._resources.items():
            if key not in new:
                gone.append(Resource())
                gone[-1].CopyFrom(resource)
                gone[-1].deleted = True
        changed = [resource for key, resource in new.items() if self._resources.get(key) != resource]
        self._resources = new
        self._by_owner = {}
        for key, resource in new.items():
            self._by_owner.setdefault((key[0], key[1]), {})[key] = resource
        return changed + gone

    def _put(self, resource: Resource) -> bool:
        key = _key(resource)
        known = self._resources.get(key)
        if known is not None and resource.revision and known.revision > resource.revision:
            return False
        owned = self._by_owner.setdefault((key[0], key[1]), {})
        if resource.deleted:
            owned.pop(key, None)
            return self._resources.pop(key, None) is not None
        self._resources[key] = owned[key] = resource
        return known != resource

    def _tell(self, changed: list[Resource]) -> None:
        for revision, reached in self._waiters:
            if self.revision >= revision and not reached.done():
                reached.set_result(None)
        if changed:
            for callback in list(self._callbacks):
                callback(changed)


def _key(resource: Resource) -> Key:
    return (resource.kind, resource.tenant_id, resource.workspace_id, resource.name)
