"""``python -m deploy.codegen``: rewrite gen/; with ``--check``: say what is out of date, and fail."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from deploy.codegen.generate import ROOT, GenerationError, differences, generate, update


def main(arguments: list[str]) -> int:
    """Returns the process's exit code."""
    try:
        if "--check" not in arguments:
            update(ROOT / "gen")
            return 0
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder))
            stale = differences(ROOT / "gen", Path(folder))
    except GenerationError as problem:
        print(problem, file=sys.stderr)
        return 1
    for path in stale:
        print(f"gen/{path} differs from what proto/ generates: run `make gen`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
