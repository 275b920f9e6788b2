"""Rows of the edge <-> protos, with everything that people wrote sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from edge.store.tables import MessageRow, ThreadRow
from fastchat.common.v1.message_pb2 import ChatMessage
from fastchat.gateway.v1 import thread_service_pb2 as pb
from kit.crypto import Keyring
from kit.db import TenantRow, utc_now


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to write. The id is given by the caller, so that writing it again can be noticed."""

    id: str
    parent_id: str
    position: int
    message: ChatMessage
    run_id: str = ""
    outcome: str = ""


class Sealer:
    """Rows <-> protos; everything that people wrote is sealed, bound to the row and column that it belongs to."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def text(self, row: ThreadRow, text: str, column: str) -> bytes | None:
        """A text of a thread, sealed; None for ""."""
        if not text:
            return None
        key_id, sealed = self._keyring.seal(row.tenant_id, text.encode(), f"{row.id}/{column}".encode())
        self._same_key(row, key_id, column)
        return sealed

    def _same_key(self, row: ThreadRow, key_id: str, column: str) -> None:
        """One key a row: when the ring's key has changed, the other column is sealed anew with it."""
        before, row.key_id = row.key_id, key_id
        other = "title" if column == "preview" else "preview"
        sealed = getattr(row, f"{other}_sealed")
        if before in ("", key_id) or sealed is None:
            return
        place = f"{row.id}/{other}".encode()
        plain = self._keyring.open(row.tenant_id, before, sealed, place)
        setattr(row, f"{other}_sealed", self._keyring.seal(row.tenant_id, plain, place)[1])

    def row(self, thread: ThreadRow, new: NewMessage) -> MessageRow:
        """A message to write."""
        content = new.message.SerializeToString()
        key_id, sealed = self._keyring.seal(thread.tenant_id, content, new.id.encode())
        return MessageRow(
            tenant_id=thread.tenant_id,
            key_id=key_id,
            id=new.id,
            thread_id=thread.id,
            parent_id=new.parent_id,
            position=new.position,
            user_id=thread.user_id,
            content_sealed=sealed,
            run_id=new.run_id,
            outcome=new.outcome,
            created_at=utc_now(),
        )

    def message(self, row: MessageRow) -> pb.ThreadMessage:
        """A stored message, opened."""
        content = self._keyring.open(row.tenant_id, row.key_id, row.content_sealed, row.id.encode())
        message = pb.ThreadMessage(id=row.id, parent_id=row.parent_id, run_id=row.run_id)
        message.message.ParseFromString(content)
        message.message.id = row.id
        message.create_time.FromDatetime(row.created_at)
        return message

    def thread(self, row: ThreadRow) -> pb.Thread:
        """A stored thread, opened."""
        thread = pb.Thread(
            id=row.id,
            user_id=row.user_id,
            title=self._opened(row, row.title_sealed, "title"),
            is_pinned=row.is_pinned,
            message_count=row.message_count,
            last_message_preview=self._opened(row, row.preview_sealed, "preview"),
            active_run_id=row.active_run_id,
        )
        thread.create_time.FromDatetime(row.created_at)
        thread.update_time.FromDatetime(row.updated_at)
        return thread

    def export(self, row: TenantRow) -> Mapping[str, Any]:
        """A row for ExportScope, opened."""
        told = {name: value for name, value in row.export().items() if not name.endswith("_sealed")}
        if isinstance(row, ThreadRow):
            thread = self.thread(row)
            told |= {"title": thread.title, "last_message_preview": thread.last_message_preview}
        elif isinstance(row, MessageRow):
            told["message"] = MessageToDict(self.message(row).message, preserving_proto_field_name=True)
        return told

    def _opened(self, row: ThreadRow, sealed: bytes | None, column: str) -> str:
        if sealed is None:
            return ""
        return self._keyring.open(row.tenant_id, row.key_id, sealed, f"{row.id}/{column}".encode()).decode()
