"""``fastchat jobs``: jobs that failed for good (dead letters) of a running platform."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from deploy.cli.admin import AdminApi, Json, Key, Url
from deploy.cli.output import emit, table

app = typer.Typer(no_args_is_help=True, help="Failed jobs: list, run again.")


@app.command("list")
def list_jobs(
    queue: Annotated[str, typer.Option(help="Only jobs of this queue.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 200,
    as_json: Json = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """List the jobs that were given up."""
    found = list(AdminApi(url, key).pages("/jobs", limit, queue=queue))
    if as_json:
        emit(found)
    else:
        table(("id", "queue", "kind", "key", "tenant_id", "deliveries", "error", "failed_at"), found)


@app.command()
def redrive(
    job_id: Annotated[str, typer.Argument(help="Id of the job.")],
    url: Url = "",
    key: Key = "",
) -> None:
    """Put a job back into its queue."""
    AdminApi(url, key).call("POST", f"/jobs/{job_id}/redrive")
    sys.stderr.write(f"{job_id} is queued again\n")
