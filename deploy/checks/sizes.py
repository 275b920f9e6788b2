"""How large files and functions are: a report, with one hard limit."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("kit", "edge", "orchestrator", "knowledge", "memory", "integration", "control", "deploy")
MAX_FILE_LINES = 500


@dataclass(frozen=True)
class Sizes:
    """Lines of every module and of every function, largest first."""

    files: list[tuple[int, str]]
    functions: list[tuple[int, str]]

    @property
    def too_large(self) -> list[str]:
        """Modules above the hard limit, one line of text each."""
        return [
            f"{name}: {lines} lines, above {MAX_FILE_LINES}" for lines, name in self.files if lines > MAX_FILE_LINES
        ]

    def summary(self) -> str:
        """One line for each kind, and the largest of each."""
        return "\n".join(
            f"{kind}: {len(rows)}, median {_quantile(rows, 0.5)}, p90 {_quantile(rows, 0.9)}, "
            f"largest {', '.join(f'{name} {lines}' for lines, name in rows[:3])}"
            for kind, rows in (("files", self.files), ("functions", self.functions))
        )


def measure(root: Path) -> Sizes:
    """Read every module of the product below ``root``."""
    files: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if "node_modules" in path.parts:
                continue
            text = path.read_text(encoding="utf-8")
            name = str(path.relative_to(root))
            files.append((text.count("\n"), name))
            functions.extend((lines, f"{name}:{function}") for lines, function in _functions(text))
    return Sizes(sorted(files, reverse=True), sorted(functions, reverse=True))


def _functions(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, node.name


def _quantile(rows: Sequence[tuple[int, str]], share: float) -> int:
    if not rows:
        return 0
    return rows[min(len(rows) - 1, int(len(rows) * (1 - share)))][0]
