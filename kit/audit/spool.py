"""Files that audit events wait in until the bus has them. Events survive the process, not a power cut."""

import fcntl
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import structlog

from kit.errors import PlatformError, Reason

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LENGTH = struct.Struct(">I")
_SEGMENT_BYTES = 1024 * 1024


class Spool:
    """Append-only segments in a folder; a segment is removed once all of its events are on the bus.

    Several processes may share the folder: each holds a lock while it lives, writes segments of its own name, and at
    its start adopts the segments of those whose lock is free (they are dead).
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._name = uuid.uuid4().hex
        self._locks: dict[Path, IO[bytes]] = {}
        self._segments: list[Path] = []
        self._file: int | None = None
        self._count = 0
        self._written = 0
        own = folder / f"{self._name}.lock"
        others = sorted(folder.glob("*.lock"))
        for lock in (own, *others):
            self._adopt(lock, create=lock == own)
        self._held = sum(path.stat().st_size for path in self._segments)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._segments

    def has_room(self, event: bytes) -> bool:
        """Whether the event fits below the limit."""
        return self._held + _LENGTH.size + len(event) <= self._limit_bytes

    def append(self, event: bytes) -> None:
        """Write one event; it is the kernel's when this returns. STORAGE_UNAVAILABLE when there is no room for it."""
        if not self.has_room(event):
            raise _full("the audit spool is full")
        record = _LENGTH.pack(len(event)) + event
        try:
            if self._file is None or self._written >= _SEGMENT_BYTES:
                self._file = self._next_segment()
            if os.write(self._file, record) != len(record):
                os.ftruncate(self._file, self._written)
                raise _full("the disk is full")
        except OSError as error:
            raise _full(error.strerror or "the disk failed") from error
        self._written += len(record)
        self._held += len(record)

    def segments(self) -> list[Path]:
        """Segments that wait, oldest first. The one being written is closed; the next event begins another."""
        self._close_segment()
        return list(self._segments)

    def read(self, segment: Path) -> Iterator[bytes]:
        """Events of a segment; a torn last one (the process died while writing) is left out."""
        raw = segment.read_bytes()
        position = 0
        while position + _LENGTH.size <= len(raw):
            start = position + _LENGTH.size
            position = start + _LENGTH.unpack_from(raw, position)[0]
            if position > len(raw):
                log.warning("audit.torn_event", segment=segment.name)
                return
            yield raw[start:position]

    def remove(self, segment: Path) -> None:
        """The bus has every event of the segment."""
        self._held -= segment.stat().st_size
        segment.unlink()
        self._segments.remove(segment)

    def close(self) -> None:
        """Let go; what waits is found by the next process."""
        self._close_segment()
        waiting = {segment.name.partition("-")[0] for segment in self._segments}
        for lock, file in self._locks.items():
            if lock.stem not in waiting:
                lock.unlink(missing_ok=True)
            file.close()
        self._locks.clear()

    def _adopt(self, lock: Path, *, create: bool) -> None:
        try:
            file = lock.open("xb" if create else "rb")
        except FileNotFoundError:
            return  # another process has just finished with it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return
        self._locks[lock] = file
        self._segments += sorted(self._folder.glob(f"{lock.stem}-*.audit"))

    def _next_segment(self) -> int:
        self._close_segment()
        self._count += 1
        path = self._folder / f"{self._name}-{self._count:012d}.audit"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._written = 0
        self._segments.append(path)
        return file

    def _close_segment(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _full(why: str) -> PlatformError:
    message = f"What is done cannot be recorded: {why}."
    return PlatformError(Reason.STORAGE_UNAVAILABLE, message, retry_after_s=5.0, store="audit")
