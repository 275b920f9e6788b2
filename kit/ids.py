"""Ids: random, ordered by time, and typed so that two kinds cannot be mixed up."""

import base64
import secrets
import threading
import time
import uuid
from typing import NewType

TenantId = NewType("TenantId", str)
WorkspaceId = NewType("WorkspaceId", str)
RunId = NewType("RunId", str)
ThreadId = NewType("ThreadId", str)
MessageId = NewType("MessageId", str)
RequestId = NewType("RequestId", str)
KeyId = NewType("KeyId", str)

_RANDOM_BYTES = 15  # 120 bits: 24 characters of base32 without padding

_lock = threading.Lock()
_last = 0


def new_uuid() -> str:
    """A UUID version 7 (RFC 9562): 48 bits of milliseconds, then 12 bits that keep one process in order, then random.

    Ids of one process are strictly increasing, so they serve as keyset cursors.
    """
    global _last
    with _lock:
        # milliseconds and 1/4096 parts of one, as in RFC 9562 section 6.2 method 3
        now = time.time_ns() * 4096 // 1_000_000
        _last = now if now > _last else _last + 1
        stamp = _last
    value = (stamp >> 12 & (1 << 48) - 1) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def new_id(prefix: str) -> str:
    """A random id: the prefix ("_" is added unless it ends with "_" or "-") and 24 characters of base32 (120 bits)."""
    head = prefix if prefix.endswith(("_", "-")) else f"{prefix}_"
    return head + base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode("ascii").lower()


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual form (8-4-4-4-12 hex digits)."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
