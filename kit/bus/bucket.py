"""A small shared map (JetStream key-value)."""

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError
from nats.js.kv import KeyValue

from kit.bus.failures import translated
from kit.bus.messages import token


class Bucket:
    """Keys are any text; values are bytes with a revision, for optimistic locking."""

    def __init__(self, store: KeyValue) -> None:
        self._store = store

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """Value and revision, or None."""
        with translated():
            try:
                entry = await self._store.get(token(key))
            except KeyNotFoundError:
                return None
            return entry.value or b"", entry.revision or 0

    async def put(self, key: str, value: bytes) -> int:
        """Set whatever was there. Returns the revision."""
        with translated():
            return await self._store.put(token(key), value)

    async def create(self, key: str, value: bytes) -> int | None:
        """Set if nothing is there. Returns the revision, or None."""
        with translated():
            try:
                return await self._store.create(token(key), value)
            except KeyWrongLastSequenceError:
                return None

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Set if the revision is current. Returns the new revision, or None."""
        with translated():
            try:
                return await self._store.update(token(key), value, last=revision)
            except KeyWrongLastSequenceError:
                return None

    async def delete(self, key: str) -> None:
        """Remove."""
        with translated():
            await self._store.delete(token(key))

    async def keys(self) -> list[str]:
        """Keys, as tokens."""
        with translated():
            try:
                return sorted(await self._store.keys())
            except NoKeysError:
                return []
