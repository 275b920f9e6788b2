"""``fastchat doctor``: what is present, missing and misconfigured, one line each."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from deploy.cli.output import FAILED, emit, working

_STYLE = {"ok": "green", "note": "cyan", "missing": "yellow", "wrong": "bold red"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False) -> None:
    """Look at this machine and this configuration; fails when something is wrong."""
    from deploy.cli.examinations import examine  # imports every service's settings

    with working("looking"):
        findings = examine()
    if as_json:
        emit([{"part": finding.part, "state": finding.state, "text": finding.text} for finding in findings])
    else:
        console = Console()
        for finding in findings:
            state = f"[{_STYLE[finding.state]}]{finding.state:<8}[/]"
            console.print(f"{state}{finding.part:<15}{escape(finding.text)}", highlight=False, soft_wrap=True)
    if any(finding.state == "wrong" for finding in findings):
        sys.stdout.flush()
        raise typer.Exit(FAILED)
