"""Tails: catch up from the log, then follow what it republishes; whatever is missed is read again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from kit.bus import Bus, Stored
from kit.bus.connection import Unsubscribe
from kit.crypto import Keyring
from kit.errors import PlatformError, Reason
from kit.eventlog import records
from kit.eventlog.records import Group, LogKey

# A republished message can be lost (core NATS): a silent tail asks the log this often.
_SILENCE_S = 2.0
# Messages that a slow reader may leave lying; past that it reads the log again.
_QUEUED = 256

_LAST_SEQUENCE = "Nats-Last-Sequence"


class _Reader:
    """One reader's queue. `missed` says that the log has more than the queue."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Stored] = asyncio.Queue(_QUEUED)
        self.wake = asyncio.Event()
        self.missed = False

    def put(self, message: Stored) -> None:
        """Called for every republished message."""
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.missed = True
        self.wake.set()

    def miss(self) -> None:
        """The connection was away: messages may have passed by."""
        self.missed = True
        self.wake.set()

    def take(self) -> list[Stored]:
        """Everything queued."""
        taken = []
        while not self.queue.empty():
            taken.append(self.queue.get_nowait())
        self.wake.clear()
        return taken


class _Shared:
    """One subscription for all readers of one run in this process."""

    def __init__(self) -> None:
        self.readers: list[_Reader] = []
        self.unsubscribe: Unsubscribe | None = None
        self.lock = asyncio.Lock()

    def tell(self, message: Stored) -> None:
        """Pass a republished message on."""
        for reader in self.readers:
            reader.put(message)


class Tails:
    """The tails of one process."""

    def __init__(self, bus: Bus, keyring: Keyring, shards: int) -> None:
        self._bus = bus
        self._keyring = keyring
        self._shards = shards
        self._shared: dict[str, _Shared] = {}
        bus.on_reconnect(self._missed)

    async def follow(self, key: LogKey, after: int) -> AsyncGenerator[bytes]:
        """See EventLog.tail."""
        async with self._reader(key) as reader:
            number, position = after, 0
            groups = await self._catch_up(key, position, number)
            while True:
                for group in groups:
                    position = group.sequence
                    if group.events and group.first > number + 1:
                        raise _expired(group.first)
                    for event in group.after(number):
                        yield event
                    number = max(number, group.last)
                    if group.kind == records.FINAL:
                        return
                groups = await self._next(key, reader, position, number)

    async def _next(self, key: LogKey, reader: _Reader, position: int, number: int) -> list[Group]:
        """What came after the stream sequence `position`: from the queue if that is gapless, else from the log."""
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the result.
            async with asyncio.timeout(_SILENCE_S):
                await reader.wake.wait()
        except TimeoutError:
            return await self._catch_up(key, position, number)
        messages = [message for message in reader.take() if message.sequence > position]
        if reader.missed:
            reader.missed = False
            return await self._catch_up(key, position, number)
        groups = []
        for message in messages:
            group = records.open_group(message, key, self._keyring)
            if group.events and group.first > number + 1:
                return await self._catch_up(key, position, number)
            groups.append(group)
            number = max(number, group.last)
        return groups

    async def _catch_up(self, key: LogKey, position: int, number: int) -> list[Group]:
        """What the log holds after the stream sequence. CURSOR_EXPIRED when it was purged under the reader."""
        stream, subject = key.stream(self._shards), key.subject(self._shards)
        last = await self._bus.last(stream, subject)
        if last is None:
            if position or number:
                raise _expired(number + 1)
            return []
        if last.sequence <= position:
            return []
        messages = await self._bus.read_range(stream, subject, after=position, up_to=last.sequence)
        return [records.open_group(message, key, self._keyring) for message in messages]

    @asynccontextmanager
    async def _reader(self, key: LogKey) -> AsyncIterator[_Reader]:
        subject = key.subject(self._shards).replace("fc.run.", "fc.tail.", 1)
        shared = self._shared.setdefault(subject, _Shared())
        reader = _Reader()
        shared.readers.append(reader)
        try:
            async with shared.lock:
                if shared.unsubscribe is None:
                    shared.unsubscribe = await self._bus.listen(subject, shared.tell)
            yield reader
        finally:
            shared.readers.remove(reader)
            if not shared.readers:
                self._shared.pop(subject, None)
                if shared.unsubscribe is not None:
                    await shared.unsubscribe()

    def _missed(self) -> None:
        for shared in self._shared.values():
            for reader in shared.readers:
                reader.miss()


def _expired(first: int) -> PlatformError:
    message = "The run's events after the cursor are no longer kept."
    return PlatformError(Reason.CURSOR_EXPIRED, message, first=str(first))
