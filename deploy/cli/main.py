"""``fastchat``: run the platform, look after it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from deploy.cli import config, doctor, jobs, keys, tenants
from deploy.cli.output import FAILED, WRONG, fail

EPILOG = (
    "Exit codes: 0 done; 1 it failed; 2 wrong usage or configuration; 3 nobody answers. "
    "Settings: FASTCHAT_CONFIG names a YAML file, FASTCHAT_<SECTION>__<KEY> sets one of them, "
    "FASTCHAT_HOME is where state is."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    epilog=EPILOG,
    help="Run Fast-Chat and look after it.",
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(jobs.app, name="jobs")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)


@app.command()
def up() -> None:
    """Serve everything on this machine: NATS, the six services, one address."""
    # The supervisor forks while gRPC has threads; it execs at once, so gRPC has nothing to prepare for.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    from deploy.allinone import up as allinone
    from deploy.services import configuration, home, sketch
    from kit.config import ConfigError

    try:
        code = allinone.run(sketch(), home())
        if code == WRONG:
            configuration()  # the children were silent about it: this says what is wrong
    except ConfigError as problem:
        fail(str(problem), WRONG)
    raise typer.Exit(code)


@app.command()
def serve(
    only: Annotated[list[str], typer.Option(help="Service to run; may be repeated to run several in this process.")],
) -> None:
    """Run one service in this process."""
    from deploy.services import SERVICES

    unknown = [name for name in only if name not in SERVICES]
    if unknown:
        fail(f"no such service: {', '.join(unknown)}; there are {', '.join(SERVICES)}", WRONG)
    from deploy.allinone.child import serve as serve_services

    raise typer.Exit(serve_services(only))


@app.command()
def migrate() -> None:
    """Bring every service's schema up to date. Safe to repeat, and beside running services."""
    from deploy.cli.migrations import migrate_all
    from deploy.services import configuration, home
    from kit.config import ConfigError
    from kit.errors import PlatformError

    try:
        asyncio.run(migrate_all(configuration(), home()))
    except ConfigError as problem:
        fail(str(problem), WRONG)
    except PlatformError as problem:
        fail(problem.message, FAILED)


@app.command()
def probe(service: Annotated[str, typer.Argument(help="Service of this container.")]) -> None:
    """Exit with 0 when the service here is ready to work, for a container's health check."""
    from deploy.cli.probing import ready
    from kit.config import ConfigError

    try:
        if not asyncio.run(ready(service)):
            fail(f"{service} is not ready", FAILED)
    except ConfigError as problem:
        fail(str(problem), WRONG)


if __name__ == "__main__":
    sys.exit(app())
