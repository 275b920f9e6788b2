"""The tables of the knowledge service. Each that comes is listed in TABLES, so that it can be exported and erased."""

from collections.abc import Sequence

from kit.db import TenantRow

TABLES: Sequence[type[TenantRow]] = ()
