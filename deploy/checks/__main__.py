"""``python -m deploy.checks``: every static check of the project, two at a time, one line each.

With names: only those. ``--write-requirements``: rewrite docs/requirements.md.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.checks import requirements, sizes

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
BASELINE = "proto/baseline.binpb"

Result = tuple[bool, str]
"""Whether it passed, and what to print."""


def main(arguments: Sequence[str]) -> int:
    """Returns the process's exit code."""
    if "--write-requirements" in arguments:
        (ROOT / requirements.PAGE).write_text(_requirements_page(), encoding="utf-8")
        return 0
    checks = _checks()
    unknown = [name for name in arguments if name not in checks]
    if unknown:
        print(f"no such check: {', '.join(unknown)}; there are {', '.join(checks)}", file=sys.stderr)
        return 2
    wanted = {name: check for name, check in checks.items() if not arguments or name in arguments}
    with ThreadPoolExecutor(2) as pool:
        passed = list(pool.map(_run, wanted.items()))
    print(f"{sum(passed)} checks passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


def _checks() -> dict[str, Callable[[], Result]]:
    python = str(BIN / "python")
    return {
        "types": lambda: _command(BIN / "mypy", "--strict"),
        "ruff": lambda: _command(BIN / "ruff", "check", "."),
        "format": lambda: _command(BIN / "ruff", "format", "--check", "."),
        "imports": lambda: _command(BIN / "lint-imports"),
        "buf-lint": lambda: _command(BIN / "buf", "lint"),
        "buf-format": lambda: _command(BIN / "buf", "format", "--diff", "--exit-code"),
        "buf-breaking": lambda: _command(BIN / "buf", "breaking", "--against", BASELINE),
        "generated": lambda: _command(python, "-m", "deploy.codegen", "--check"),
        "dockerfile": lambda: _command(BIN / "hadolint", "Dockerfile"),
        "requirements": _check_requirements,
        "sizes": _check_sizes,
    }


def _command(*command: str | Path) -> Result:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode == 0, "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


def _run(item: tuple[str, Callable[[], Result]]) -> bool:
    name, check = item
    started = time.monotonic()
    passed, text = check()
    line = f"{'ok  ' if passed else 'FAIL'} {name} ({time.monotonic() - started:.1f} s)"
    print("\n".join([line, *(f"     {part}" for part in text.splitlines())]), flush=True)
    return passed


def _requirements_page() -> str:
    return requirements.render(requirements.load(), requirements.marks(ROOT / "tests"))


def _check_requirements() -> Result:
    lines = requirements.problems(requirements.load(), requirements.marks(ROOT / "tests"))
    page = ROOT / requirements.PAGE
    if not page.exists() or page.read_text(encoding="utf-8") != _requirements_page():
        lines.append(f"{requirements.PAGE} is out of date: run `make requirements`")
    return not lines, "\n".join(lines)


def _check_sizes() -> Result:
    measured = sizes.measure(ROOT)
    return not measured.too_large, "\n".join([*measured.too_large, measured.summary()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
