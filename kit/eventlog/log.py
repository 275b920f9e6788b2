"""Append, takeover and reading of runs' logs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from kit.bus import Bus, LimitReached, StreamSpec, WrongSequence
from kit.bus.failures import is_unclear
from kit.crypto import Keyring
from kit.errors import PlatformError, Reason
from kit.eventlog import records
from kit.eventlog.records import Draft, Group, LogKey
from kit.eventlog.tail import Tails

# A takeover races an owner that still appends; each lost race is one append of the owner's.
_TAKEOVER_S = 10.0
_APPEND_S = 10.0
# The stream's own cap lies above ours, so that a run that reached ours can still be ended properly.
_RESERVE = 256
_MAX_AGE_S = 30 * 86_400.0


class Fenced(PlatformError):
    """Another owner has the run: nothing of the refused append is in the log, and nothing more may be tried."""

    def __init__(self, run_id: str) -> None:
        super().__init__(Reason.FENCED, "Another replica owns the run.", run_id=run_id)


class RunLogFull(PlatformError):
    """The run has as many events as one may have; only its last ones (error, complete) are still taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(Reason.STORAGE_UNAVAILABLE, "The run's log is full.", store="event log", limit=str(limit))


class EventLog:
    """The logs of all runs. One a process; `open` it once."""

    def __init__(self, bus: Bus, keyring: Keyring) -> None:
        self._bus = bus
        self._keyring = keyring
        self._shards = bus.config.run_shards
        self._limit = bus.config.max_events_per_run
        self._tails = Tails(bus, keyring, self._shards)

    async def open(self) -> "EventLog":
        """Make the streams. Safe from every replica at once."""
        for shard in range(self._shards):
            spec = StreamSpec(
                name=records.stream_name(shard, self._shards),
                subjects=[f"fc.run.{shard}.>"],
                max_per_subject=self._limit + _RESERVE,
                max_age_s=_MAX_AGE_S,
                republish_from=f"fc.run.{shard}.>",
                republish_to=f"fc.tail.{shard}.>",
            )
            await self._bus.ensure_stream(spec)
        return self

    async def append(self, key: LogKey, events: Sequence[bytes], *, fence: int) -> int:
        """Store serialized RunEvents as one message; returns the new fence.

        `fence` is what the append before (or `take_over`) returned; 0 for a log that does not exist yet. When this
        returns, the events are in the log, once. Fenced: another owner took over, and they are not. PAYLOAD_TOO_LARGE
        and RunLogFull: they do not fit. DEPENDENCY_UNAVAILABLE: NATS is away and whether they are stored is not known;
        the same append, tried again, finds out.
        """
        group = records.draft(events, fence)
        if group.last > self._limit and group.kind != records.FINAL:
            raise RunLogFull(self._limit)
        return await self._store(key, group, fence)

    async def take_over(self, key: LogKey, owner: str) -> tuple[list[bytes], int]:
        """Become the run's owner: returns every event of the log, and the fence. From then on the old owner is fenced.

        On a log that does not exist it returns no events, and a fence to begin with.
        """
        deadline = time.monotonic() + _TAKEOVER_S
        while True:
            last = await self._bus.last(*self._where(key))
            number = int(last.headers[records.LAST]) if last else 0
            before = last.sequence if last else 0
            try:
                fence = await self._store(key, records.takeover(owner, number, before), before)
            except Fenced:
                if time.monotonic() > deadline:
                    raise
                continue
            groups = await self._read(key, up_to=fence)
            return [event for group in groups for event in group.events], fence

    async def read(self, key: LogKey, after: int = 0) -> list[bytes]:
        """Events that the log holds now, numbered above `after`."""
        last = await self._bus.last(*self._where(key))
        if last is None:
            return []
        groups = await self._read(key, up_to=last.sequence)
        return [event for group in groups for event in group.after(after)]

    def tail(self, key: LogKey, after: int = 0) -> AsyncGenerator[bytes]:
        """Events numbered above `after`, as they are stored, in order, each once; ends after error or complete.

        Every event comes from the log or from what the log republished, never from an append that may be refused.
        Waits for a log that does not exist yet. CURSOR_EXPIRED when events after the cursor are gone.
        """
        return self._tails.follow(key, after)

    async def head(self, key: LogKey) -> int | None:
        """Number of the last event; None when there is no log."""
        last = await self._bus.last(*self._where(key))
        return int(last.headers[records.LAST]) if last else None

    async def exists(self, key: LogKey) -> bool:
        """Whether there is a log."""
        return await self.head(key) is not None

    async def purge(self, key: LogKey) -> None:
        """Remove the log. Safe to repeat."""
        stream, subject = self._where(key)
        await self._bus.purge(stream, subject)

    async def runs(self, tenant_id: str) -> list[LogKey]:
        """Logs of a tenant, for export and erasure."""
        found: list[str] = []
        for shard in range(self._shards):
            subject = LogKey(tenant_id, "any").subject(1).split(".")
            subject[2], subject[-1] = str(shard), "*"
            found += await self._bus.counts(records.stream_name(shard, self._shards), ".".join(subject))
        return [LogKey(tenant_id, _untoken(subject.rsplit(".", 1)[1])) for subject in found]

    def _where(self, key: LogKey) -> tuple[str, str]:
        return key.stream(self._shards), key.subject(self._shards)

    async def _store(self, key: LogKey, group: Draft, fence: int) -> int:
        """Append, whatever becomes of acknowledgements: an unclear outcome is looked up before it is tried again."""
        data, headers = records.seal(group, key, self._keyring)
        stream, subject = self._where(key)
        deadline = time.monotonic() + _APPEND_S
        while True:
            try:
                sequence, _ = await self._bus.append(subject, data, expected_last_subject_seq=fence, headers=headers)
                return sequence
            except WrongSequence:
                # Fenced, or a copy of this append sent before was stored after all.
                return await self._find(key, stream, subject, group)
            except LimitReached as error:
                raise RunLogFull(self._limit) from error
            except PlatformError as error:
                if not is_unclear(error) or time.monotonic() > deadline:
                    raise
                found = await self._bus.last(stream, subject)
                if found is not None and found.sequence != fence:
                    return await self._find(key, stream, subject, group)
                await asyncio.sleep(0)

    async def _find(self, key: LogKey, stream: str, subject: str, group: Draft) -> int:
        last = await self._bus.last(stream, subject)
        if last is not None and last.headers[records.APPEND] == group.append_id:
            return last.sequence
        raise Fenced(key.run_id)

    async def _read(self, key: LogKey, up_to: int) -> list[Group]:
        """All groups up to a stream sequence that is known to be in the log."""
        stream, subject = self._where(key)
        deadline = time.monotonic() + _TAKEOVER_S
        while True:
            messages = await self._bus.read_range(stream, subject, up_to=up_to)
            if messages and messages[-1].sequence == up_to:
                return [records.open_group(message, key, self._keyring) for message in messages]
            if time.monotonic() > deadline:
                raise PlatformError(Reason.STORAGE_UNAVAILABLE, "The run's log cannot be read.", store="event log")
            await asyncio.sleep(0.02)  # a follower answered that does not have it yet


def _untoken(text: str) -> str:
    raw = bytearray()
    position = 0
    while position < len(text):
        if text[position] == "=" and position + 2 < len(text):
            raw.append(int(text[position + 1 : position + 3], 16))
            position += 3
        else:
            raw += text[position].encode()
            position += 1
    return raw.decode()
