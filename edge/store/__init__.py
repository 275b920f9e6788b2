"""The edge's SQL: threads and their messages. Content is sealed per tenant."""

from edge.store.sealing import NewMessage, Sealer
from edge.store.tables import TABLES, MessageRow, Row, ThreadRow
from edge.store.threads import Reach, ThreadSession, ThreadStore

__all__ = ["TABLES", "MessageRow", "NewMessage", "Reach", "Row", "Sealer", "ThreadRow", "ThreadSession", "ThreadStore"]
