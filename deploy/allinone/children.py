"""Child processes that never outlive their parent.

Linux has a death signal for that. Elsewhere a shell of three lines stands
between: it waits for the end of a pipe that only the parent holds open.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1

# Runs "$@" and kills it when standard input ends. TERM and INT arrive at the
# whole group, so the shell only has to live through them and wait again.
_TETHER = """
trap : TERM INT
exec 3<&0
"$@" </dev/null & child=$!
( trap '' TERM INT; read -r _ <&3; kill -KILL $child ) >/dev/null 2>&1 & watch=$!
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
kill -KILL $watch 2>/dev/null
exit $code
"""


def _die_with_parent(parent: int) -> Callable[[], None]:
    """A step between fork and exec that asks the kernel for SIGKILL when ``parent`` ends."""
    libc = ctypes.CDLL(None, use_errno=True)

    def step() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the request was in place
            os._exit(1)

    return step


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: IO[bytes] | int | None = None,
    user: str | int | None = None,
    tether: bool = not sys.platform.startswith("linux"),
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a process group of its own that is killed when this process ends.

    ``output`` takes both its standard output and error; None: inherited.
    Call it from a thread that lives as long as the process (the main thread).
    """
    arguments = [str(part) for part in command]
    if tether:
        arguments = ["/bin/sh", "-c", _TETHER, "tether", *arguments]
    return subprocess.Popen(  # noqa: S603 - the command is ours, no shell reads it
        arguments,
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=subprocess.PIPE if tether else subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        user=user,
        process_group=0,
        preexec_fn=None if tether else _die_with_parent(os.getpid()),  # noqa: PLW1509 - spawned from a process without other threads that hold locks
    )


def send(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the child, or to its whole group when it must not be survived; nothing when it has ended.

    A tethered child is reached through its group, since the process that we know is the shell.
    """
    tethered = child.stdin is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
        if tethered or number == signal.SIGKILL:
            os.killpg(child.pid, number)
        else:
            os.kill(child.pid, number)
