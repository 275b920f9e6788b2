"""The task that keeps a SettingsCache in step with control."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import structlog

from fastchat.control.v1.settings_service_pb2 import ResourceKind, WatchSettingsRequest, WatchSettingsResponse
from fastchat.control.v1.settings_service_pb2_grpc import SettingsServiceStub
from kit.principal import acting_as, service_principal
from kit.settings import last_known_good
from kit.settings.cache import SettingsCache

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Control says something every second; so long a silence means that the stream is dead.
_SILENCE_S = 5.0
_BACKOFF_S = (0.1, 2.0)
# While nothing changes, the file's time is renewed this often, so that a restart knows its true age.
_RENEW_S = 30.0


async def watch_settings(
    channel: grpc.aio.Channel,
    cache: SettingsCache,
    path: Path,
    watcher: str,
    kinds: Sequence[ResourceKind.ValueType] = (),
) -> None:
    """Run until cancelled: load the last known state, subscribe, apply and acknowledge, reconnect with backoff.

    `path` is where the last state is kept; `watcher` is "service/replica"; `kinds` empty means all.
    """
    saved = await asyncio.to_thread(last_known_good.load, path)
    if saved is not None and cache.revision == 0:
        cache.restore(*saved)
    async with asyncio.TaskGroup() as tasks:
        keeper = _Keeper(cache, path)
        tasks.create_task(keeper.run(), name="settings.keep")
        tasks.create_task(_subscribe_forever(channel, cache, keeper, watcher, kinds), name="settings.watch")


async def _subscribe_forever(
    channel: grpc.aio.Channel,
    cache: SettingsCache,
    keeper: "_Keeper",
    watcher: str,
    kinds: Sequence[ResourceKind.ValueType],
) -> None:
    delay_s = _BACKOFF_S[0]
    while True:
        before = cache.heard_at
        try:
            await _subscribe(channel, cache, keeper, watcher, kinds)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "SILENT"
            log.info("settings.watch_lost", watcher=watcher, code=code, retry_s=round(delay_s, 2))
        delay_s = _BACKOFF_S[0] if cache.heard_at != before else min(delay_s * 2, _BACKOFF_S[1])
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter needs no secrecy


async def _subscribe(
    channel: grpc.aio.Channel,
    cache: SettingsCache,
    keeper: "_Keeper",
    watcher: str,
    kinds: Sequence[ResourceKind.ValueType],
) -> None:
    first = WatchSettingsRequest(watcher=watcher, kinds=kinds, revision=cache.revision)
    acknowledged: asyncio.Queue[WatchSettingsRequest] = asyncio.Queue(maxsize=1)

    async def requests() -> AsyncIterator[WatchSettingsRequest]:
        yield first
        while True:
            yield await acknowledged.get()

    with acting_as(service_principal(watcher.partition("/")[0])):
        call = SettingsServiceStub(channel).WatchSettings(requests())
        try:
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    batch = await call.read()
                if not isinstance(batch, WatchSettingsResponse):
                    return  # end of stream: control is going down
                if cache.apply(batch):
                    keeper.changed()
                    _offer(acknowledged, WatchSettingsRequest(revision=cache.revision))
        finally:
            call.cancel()


def _offer(queue: asyncio.Queue[WatchSettingsRequest], request: WatchSettingsRequest) -> None:
    """Put the newest acknowledgement; one that was not sent yet is out of date."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(request)


class _Keeper:
    """Writes the state to disk after changes, the newest only, off the event loop."""

    def __init__(self, cache: SettingsCache, path: Path) -> None:
        self._cache = cache
        self._path = path
        self._dirty = asyncio.Event()

    def changed(self) -> None:
        """Ask for a write."""
        self._dirty.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the result.
                async with asyncio.timeout(_RENEW_S):
                    await self._dirty.wait()
            except TimeoutError:
                if self._cache.revision == 0:
                    continue
            self._dirty.clear()
            state, heard_at = self._cache.state(), self._cache.heard_at or 0.0
            try:
                await asyncio.to_thread(last_known_good.save, self._path, state, heard_at)
            except OSError as error:
                log.error("settings.not_kept", path=str(self._path), why=error.strerror)
