"""The tables of the memory service. Each that comes is listed in TABLES, so that it can be exported and erased."""

from collections.abc import Sequence

from kit.db import TenantRow

TABLES: Sequence[type[TenantRow]] = ()
