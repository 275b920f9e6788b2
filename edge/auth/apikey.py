"""API keys: found by SHA-256 in what control has pushed, or by one call to control.

A key that was made this instant may not have been pushed yet, so a miss asks control: one call however many requests
bring that key, at most `lookup_concurrency` at once, and an unknown key is remembered as unknown for
`negative_cache_s`. A pushed revocation counts at once. While control is away, a key that was never pushed is unknown.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from edge.auth.identity import KeyHash, KeyRecord
from edge.config import AuthConfig
from kit.errors import PlatformError, Reason

MAXIMUM_KEY_CHARS = 512


class PushedKeys(Protocol):
    """What control has pushed about keys."""

    def find(self, key_hash: KeyHash) -> KeyRecord | None:
        """The key's record, revoked ones too; None if it was never pushed."""

    @property
    def complete(self) -> bool:
        """Whether a full snapshot was ever received, so that a miss means something."""

    def on_withdrawn(self, callback: Callable[[KeyHash], None]) -> None:
        """Call back when control withdraws a key: it was revoked."""


Lookup = Callable[[KeyHash], Awaitable[KeyRecord | None]]
"""Asks control for a key by hash. None: there is none. DEPENDENCY_UNAVAILABLE and the like if control is away."""


def hash_key(key: str) -> KeyHash:
    """SHA-256 of the key, lower-case hex."""
    return KeyHash(hashlib.sha256(key.encode()).hexdigest())


class ApiKeys:
    """Tells who holds a key. Safe for concurrent use in one event loop."""

    def __init__(
        self, pushed: PushedKeys, lookup: Lookup, config: AuthConfig, clock: Callable[[], float] = time.time
    ) -> None:
        self._pushed = pushed
        self._lookup = lookup
        self._config = config
        self._clock = clock
        # What look-ups told, by hash, with the time until which it counts, unless control withdraws the key before.
        self._told: OrderedDict[KeyHash, tuple[float, KeyRecord | None]] = OrderedDict()
        self._running: dict[KeyHash, asyncio.Task[KeyRecord | None]] = {}
        # Keys withdrawn while they were being looked up: the answer may be from before.
        self._overtaken: set[KeyHash] = set()
        pushed.on_withdrawn(self._withdrawn)
        self._slots = asyncio.Semaphore(config.lookup_concurrency)

    def pushed(self, key: str) -> KeyRecord | None:
        """The record, if control has pushed the key; not checked."""
        return self._pushed.find(hash_key(key))

    async def authenticate(self, key: str) -> KeyRecord:
        """The key's record. INVALID_API_KEY if unknown or revoked, EXPIRED_CREDENTIALS if too old."""
        if len(key) > MAXIMUM_KEY_CHARS:
            raise _invalid()
        key_hash = hash_key(key)
        record = self._pushed.find(key_hash) or await self._ask(key_hash)
        if record is None or record.revoked_at:
            raise _invalid()
        if record.expires_at and record.expires_at <= self._clock():
            when = datetime.fromtimestamp(record.expires_at, UTC).isoformat().replace("+00:00", "Z")
            raise PlatformError(Reason.EXPIRED_CREDENTIALS, "the API key has expired", expired_at=when)
        return record

    def _withdrawn(self, key_hash: KeyHash) -> None:
        self._told.pop(key_hash, None)
        if key_hash in self._running:
            self._overtaken.add(key_hash)

    async def _ask(self, key_hash: KeyHash) -> KeyRecord | None:
        told = self._told.get(key_hash)
        if told is not None and told[0] > self._clock():
            return told[1]
        task = self._running.get(key_hash)
        if task is None:
            task = asyncio.create_task(self._look_up(key_hash), name="api-key-lookup")
            self._running[key_hash] = task
            task.add_done_callback(lambda done: self._finished(key_hash, done))
        return await asyncio.shield(task)  # a caller that gives up must not take the others' answer with it

    def _finished(self, key_hash: KeyHash, task: asyncio.Task[KeyRecord | None]) -> None:
        self._running.pop(key_hash, None)
        self._overtaken.discard(key_hash)
        if not task.cancelled():
            task.exception()  # every caller may have given up; then nobody else asks for it

    async def _look_up(self, key_hash: KeyHash) -> KeyRecord | None:
        try:
            async with asyncio.timeout(self._config.lookup_timeout_s), self._slots:
                record = await self._lookup(key_hash)
        except (PlatformError, TimeoutError) as error:
            if self._pushed.complete:
                record = None
            elif isinstance(error, PlatformError):
                raise
            else:
                raise PlatformError(
                    Reason.DEPENDENCY_UNAVAILABLE, "keys cannot be checked now", dependency="control", retry_after_s=1.0
                ) from error
        if key_hash in self._overtaken:
            record = None
        self._told[key_hash] = (self._clock() + self._config.negative_cache_s, record)
        self._told.move_to_end(key_hash)
        while len(self._told) > self._config.negative_cache_size:
            self._told.popitem(last=False)
        return record


def _invalid() -> PlatformError:
    return PlatformError(Reason.INVALID_API_KEY, "incorrect API key provided")
