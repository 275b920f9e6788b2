"""One process that serves one or several services: ``python -m deploy.allinone.child core``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from deploy.services import PROCESSES, SUPERVISED, builders, configuration, home
from kit import process
from kit.config import ConfigError


def serve(services: Sequence[str]) -> int:
    """Run the services in this process until a stop signal; returns its exit code."""
    try:
        loaded = configuration()
    except ConfigError as problem:
        if SUPERVISED not in os.environ:
            sys.stderr.write(f"fastchat: {problem}\n")
        return process.EXIT_CONFIG
    return process.run(builders(services), loaded, home=home())


if __name__ == "__main__":
    sys.exit(serve(PROCESSES[sys.argv[1]]))
