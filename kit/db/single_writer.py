"""SQLite has one process: the second replica gets a clear error instead of a damaged promise."""

import fcntl
import os
from pathlib import Path
from typing import IO

from kit.config import ConfigError


class SingleWriter:
    """An exclusive lock on `<database file>.lock`, held while the database is open.

    The kernel drops it when the process dies, however it dies. The file stays; it holds the last owner's process id.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = database.with_name(f"{database.name}.lock")
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock now, or ConfigError."""
        if not self.try_acquire():
            owner = self._path.read_text().strip() or "unknown"
            raise ConfigError(
                f"a second replica on SQLite: {self._database} is open in process {owner}. SQLite serves one replica "
                "of a service; stop the other one, or set FASTCHAT_DATABASE__URL to PostgreSQL to run several"
            )

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        try:
            file = self._path.open("a+")
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Let go. Safe to repeat."""
        if self._file is not None:
            self._file.close()
            self._file = None
