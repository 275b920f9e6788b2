"""A file that audit events wait in until the bus has them. Events survive the process, not a power cut."""

import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import structlog

from kit.errors import PlatformError, Reason

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LENGTH = struct.Struct(">I")
_SEGMENT_BYTES = 1024 * 1024
_SUFFIX = ".audit"


class Spool:
    """Append-only segments in a folder; a segment is removed once all of its events are on the bus.

    Each process writes segments of its own names, so that several can share a folder and the next process finds what
    a dead one left.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._file: int | None = None
        self._path: Path | None = None
        self._written = 0
        self._held = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._owned: list[Path] = sorted(folder.glob(f"*{_SUFFIX}"))
        self._held = sum(path.stat().st_size for path in self._owned)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._owned

    def has_room(self, event: bytes) -> bool:
        """Whether the event fits below the limit."""
        return self._held + _LENGTH.size + len(event) <= self._limit_bytes

    def append(self, event: bytes) -> None:
        """Write one event; it is the kernel's when this returns. STORAGE_UNAVAILABLE when there is no room for it."""
        record = _LENGTH.pack(len(event)) + event
        if not self.has_room(event):
            raise _full("the audit spool is full")
        try:
            if self._file is None or self._written >= _SEGMENT_BYTES:
                self._next_segment()
            assert self._file is not None
            written = os.write(self._file, record)
            if written != len(record):
                os.ftruncate(self._file, self._written)
                raise _full("the disk is full")
        except OSError as error:
            raise _full(error.strerror or "the disk failed") from error
        self._written += len(record)
        self._held += len(record)

    def segments(self) -> list[Path]:
        """Segments that wait, oldest first; the one being written is closed, the next event begins another."""
        self._close()
        return list(self._owned)

    def read(self, segment: Path) -> Iterator[bytes]:
        """Events of a segment; a torn last one (the process died while writing) is left out."""
        raw = segment.read_bytes()
        position = 0
        while position + _LENGTH.size <= len(raw):
            (length,) = _LENGTH.unpack_from(raw, position)
            start = position + _LENGTH.size
            if start + length > len(raw):
                log.warning("audit.torn_event", segment=segment.name)
                return
            yield raw[start : start + length]
            position = start + length

    def remove(self, segment: Path) -> None:
        """The bus has every event of the segment."""
        self._held -= segment.stat().st_size
        segment.unlink()
        self._owned.remove(segment)

    def close(self) -> None:
        """Let go of the file; what waits is found at the next start."""
        self._close()

    def _next_segment(self) -> None:
        self._close()
        path = self._folder / f"{uuid.uuid1().time:020d}-{os.getpid()}{_SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._path = path
        self._written = 0
        self._owned.append(path)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _full(why: str) -> PlatformError:
    message = f"What is done cannot be recorded: {why}."
    return PlatformError(Reason.STORAGE_UNAVAILABLE, message, retry_after_s=5.0, store="audit")
