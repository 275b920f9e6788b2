"""``fastchat config``: the settings in force, and where each came from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.output import WRONG, emit, fail, table

app = typer.Typer(no_args_is_help=True, help="Settings of this machine.")


@app.callback()
def _group() -> None:
    """Settings of this machine."""


@app.command()
def show(
    section: Annotated[str, typer.Argument(help="Only settings that begin with this, such as edge.cors.")] = "",
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are not the default.")] = False,
    profile: Annotated[
        str, typer.Option(help="Compare the defaults of this profile (oss, enterprise) with those of the one in force.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Show every setting, its value with secrets masked, and the layer that decided it."""
    from deploy.services import configuration
    from kit.config import ConfigError

    try:
        loaded = configuration()
        rows = compare(loaded, profile) if profile else effective(loaded, changed)
    except ConfigError as problem:
        fail(str(problem), WRONG)
    rows = [row for row in rows if row["setting"].startswith(section)]
    if as_json:
        emit(rows)
    else:
        table(list(rows[0]) if rows else ["setting"], rows)


def effective(loaded: Any, changed: bool) -> list[dict[str, Any]]:
    """Rows of setting, value, layer."""
    origins = loaded.origins()
    return [
        {"setting": name, "value": value, "layer": origins[name]}
        for name, value in sorted(loaded.effective().items())
        if not changed or origins[name] != "default"
    ]


def compare(loaded: Any, profile: str) -> list[dict[str, Any]]:
    """Rows of setting and its default in either profile, where they differ."""
    from control.profiles import PROFILES, defaults
    from kit.config import ConfigError
    from kit.mesh import MeshConfig

    current = loaded.section("mesh", MeshConfig).profile
    if profile not in PROFILES:
        raise ConfigError(f"no such profile: {profile}; there are {', '.join(PROFILES)}")
    ours, theirs = _flat(defaults(current)), _flat(defaults(profile))
    return [
        {"setting": f"settings.{name}", current: ours.get(name), profile: theirs.get(name)}
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        name: found
        for key, item in value.items()
        for name, found in _flat(item, f"{path}.{key}" if path else str(key)).items()
    }
