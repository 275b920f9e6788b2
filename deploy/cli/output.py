"""What commands print, and how they fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

FAILED = 1
WRONG = 2  # usage or configuration; what typer uses for usage
UNREACHABLE = 3


def fail(message: str, code: int = FAILED) -> NoReturn:
    """End the command with one clear message on standard error."""
    sys.stderr.write(f"fastchat: {message}\n")
    raise typer.Exit(code)


def emit(document: Any) -> None:
    """JSON for a script, on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A table for a person; columns are keys of the rows."""
    shown = Table(box=None, header_style="bold")
    for column in columns:
        # What one copies must stay in one piece.
        shown.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "id")
    for row in rows:
        shown.add_row(*(_text(row.get(column)) for column in columns))
    Console().print(shown)


def working(text: str) -> Any:
    """A spinner on standard error while something takes its time; silent when that is no terminal."""
    console = Console(stderr=True)
    return console.status(text) if console.is_terminal else Console(quiet=True).status(text)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
