"""SQL for services: a tenant-scoped session over SQLite or PostgreSQL.

A service declares `class Row(DeclarativeBase): metadata = new_metadata()`, tables as `class Thread(TenantRow, Row)`,
and opens everything through `Database.tenant(...)`: the tenant predicate is added here, not remembered by handlers.
"""

from kit.db.config import DatabaseConfig, default_url
from kit.db.database import Database, Session
from kit.db.rows import TenantRow, UtcDateTime, new_metadata, utc_now
from kit.db.statements import TenantScopeError
from kit.db.whole import uninterrupted, whole

__all__ = [
    "Database",
    "DatabaseConfig",
    "Session",
    "TenantRow",
    "TenantScopeError",
    "UtcDateTime",
    "default_url",
    "new_metadata",
    "uninterrupted",
    "utc_now",
    "whole",
]
