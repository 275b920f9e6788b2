"""``fastchat keys``: API keys of a running platform."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from deploy.cli.admin import AdminApi, Json, Key, Url
from deploy.cli.output import WRONG, emit, fail, table

app = typer.Typer(no_args_is_help=True, help="API keys: make, list, revoke.")
Tenant = Annotated[str, typer.Option("--tenant", help="Tenant. Default: that of the admin key.", show_default=False)]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Name to show.")] = "",
    tenant: Tenant = "",
    workspace: Annotated[str, typer.Option(help="Workspace. Default: the tenant as a whole.")] = "",
    subject: Annotated[str, typer.Option(help="Who holds it. Default: made from the key's id.")] = "",
    role: Annotated[list[str] | None, typer.Option(help="Role; may be repeated. Default: member.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="Scope; may be repeated. Default: those of the roles.")
    ] = None,
    expires: Annotated[str, typer.Option(help="When it expires: ISO 8601, with a UTC offset.")] = "",
    as_json: Json = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """Make a key and print it, this once."""
    body = {
        "name": name,
        "tenant_id": tenant or None,
        "workspace_id": workspace or None,
        "subject": subject or None,
        "roles": role or [],
        "scopes": scope or [],
        "expires_at": _moment(expires),
    }
    made = AdminApi(url, key).call("POST", "/api-keys", {field: value for field, value in body.items() if value})
    if as_json:
        emit(made)
    else:
        sys.stdout.write(f"{made['key']}\n")
        sys.stderr.write(f"{made['id']}: roles {', '.join(made['roles'])}; it is not shown again\n")


@app.command("list")
def list_keys(
    tenant: Tenant = "",
    workspace: Annotated[str, typer.Option(help="Only keys of this workspace.")] = "",
    revoked: Annotated[bool, typer.Option("--revoked", help="Also revoked ones.")] = False,
    as_json: Json = False,
    url: Url = "",
    key: Key = "",
) -> None:
    """List keys, newest first."""
    api = AdminApi(url, key)
    found = list(api.pages("/api-keys", tenant_id=tenant, workspace_id=workspace, include_revoked=revoked))
    if as_json:
        emit(found)
    else:
        table(("id", "begins_with", "name", "roles", "state"), [_row(record) for record in found])


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")],
    tenant: Tenant = "",
    url: Url = "",
    key: Key = "",
) -> None:
    """End a key for good, everywhere within a second."""
    AdminApi(url, key).call("DELETE", f"/api-keys/{key_id}", tenant_id=tenant)
    sys.stderr.write(f"{key_id} is revoked\n")


def _row(record: dict[str, Any]) -> dict[str, Any]:
    state = "active"
    if record["revoked_at"]:
        state = f"revoked {record['revoked_at'][:16]}"
    elif record["expires_at"]:
        gone = datetime.fromisoformat(record["expires_at"]) <= datetime.now(UTC)
        state = f"{'expired' if gone else 'until'} {record['expires_at'][:16]}"
    return {**record, "begins_with": record["prefix"], "state": state}


def _moment(text: str) -> str | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--expires: {text!r} is no ISO 8601 time", WRONG)
    if moment.tzinfo is None:
        fail(f"--expires: {text!r} has no UTC offset; write it as {text}+00:00 or {text}Z", WRONG)
    return moment.isoformat()
