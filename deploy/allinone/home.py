"""The folder that holds an installation's state, and the rule that one all-in-one uses it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.config import ConfigError

# Where control keeps the key that it generates (control.bootstrap.FILE, whose module is too heavy to import here).
KEY_FILE = "bootstrap.key"
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


def kept_key(home: Path) -> str | None:
    """The admin key that the first start generated; None when there is none, or it was told by the environment."""
    try:
        return (home / KEY_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


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
