"""Migrations of all services, one after the other."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.cli.output import working
from deploy.services import SERVICES, has_tables
from kit.config import Loaded
from kit.db import migrate
from kit.db.config import DatabaseConfig


async def migrate_all(loaded: Loaded, home: Path) -> None:
    """Upgrade every schema and say which revision it reached."""
    config = loaded.section("database", DatabaseConfig)
    for service in filter(has_tables, SERVICES):
        url = config.url_for(service, home)
        with working(f"migrating {service}"):
            revision = await migrate.upgrade(service, url)
        sys.stdout.write(f"{service}: {revision or 'no migrations'}\n")
