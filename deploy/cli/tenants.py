"""``fastchat tenants``: tenants of a running platform."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from deploy.cli.admin import AdminApi, Json, Key, Url
from deploy.cli.output import emit, table

app = typer.Typer(no_args_is_help=True, help="Tenants: make, list.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name to show.")],
    tenant_id: Annotated[str, typer.Option("--id", help="Id: a-z, 0-9 and '-'. Default: made from the name.")] = "",
    as_json: Json = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """Make a tenant with its workspace "default"."""
    body = {"name": name, **({"id": tenant_id} if tenant_id else {})}
    made = AdminApi(url, key).call("POST", "/tenants", body)
    if as_json:
        emit(made)
    else:
        sys.stdout.write(f"{made['id']}\n")


@app.command("list")
def list_tenants(as_json: Json = False, url: Url = "", key: Key = "") -> None:
    """List tenants in order of id."""
    found = list(AdminApi(url, key).pages("/tenants"))
    if as_json:
        emit(found)
    else:
        table(("id", "name", "status", "created_at"), found)
