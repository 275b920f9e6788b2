"""Control's SQL: tables, transactions, and the queries that need more than equality."""

from control.store import audit, feed, keys, registry
from control.store.audit import AuditFilter
from control.store.feed import Head
from control.store.tables import (
    ERASABLE,
    ApiKeyEntry,
    AuditEntry,
    LayerRow,
    ModelRow,
    PolicyRow,
    ResourceRow,
    TenantEntry,
    WorkspaceEntry,
)
from control.store.unit import Store, Unit

__all__ = [
    "ERASABLE",
    "ApiKeyEntry",
    "AuditEntry",
    "AuditFilter",
    "Head",
    "LayerRow",
    "ModelRow",
    "PolicyRow",
    "ResourceRow",
    "Store",
    "TenantEntry",
    "Unit",
    "WorkspaceEntry",
    "audit",
    "feed",
    "keys",
    "registry",
]
