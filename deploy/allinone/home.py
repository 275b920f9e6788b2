"""The folder that holds an installation's state, and the rule that one all-in-one uses it."""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.config import ConfigError

KEY_FILE = "admin-key"
# A unix socket's path has 104 bytes on macOS, 108 on Linux.
_LONGEST_SOCKET = 100


@contextmanager
def lock(home: Path) -> Iterator[None]:
    """Make the folder and hold it for this process. ConfigError when it is held or cannot be written.

    The kernel drops the lock when the process ends, however it ends.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (home / "up.lock").open("a+", encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"FASTCHAT_HOME: {home} cannot be written: {problem.strerror}") from problem
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise ConfigError(
                f"{home} is in use by process {owner}; stop it, or set FASTCHAT_HOME to another folder"
            ) from problem
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def admin_key(home: Path, given: str | None) -> tuple[str, bool]:
    """The first admin key, and whether it was made just now. One that was ``given`` is not written down."""
    if given:
        return given, False
    path = home / KEY_FILE
    if path.exists():
        return path.read_text(encoding="utf-8").strip(), False
    key = f"fc-{secrets.token_urlsafe(32)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key + "\n")
    return key, True


@contextmanager
def sockets(home: Path) -> Iterator[Path]:
    """A private folder for unix sockets: below the home, or in a temporary one when that path is too long."""
    run = home / "run"
    if len(str(run / "orchestrator.sock").encode()) <= _LONGEST_SOCKET:
        run.mkdir(mode=0o700, exist_ok=True)
        for left in run.glob("*.sock"):
            left.unlink()
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="fastchat-") as folder:
        yield Path(folder)
