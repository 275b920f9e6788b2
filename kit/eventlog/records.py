"""How events lie in the log: one message is a group of records, sealed with the tenant's key.

Headers: Fc-Kind (events, final, takeover), Fc-Key (key id), Fc-First and Fc-Last (event numbers; of a takeover record,
Fc-Last is the last number before it), Fc-Append (content key of the append, by which a retry recognizes it).
The payload is the sealed, length-delimited events. The run id is bound into the seal.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from fastchat.common.v1.event_pb2 import RunEvent
from kit.bus import Stored, token
from kit.crypto import Keyring

EVENTS, FINAL, TAKEOVER = "events", "final", "takeover"
KIND, KEY_ID, FIRST, LAST, APPEND, OWNER = "Fc-Kind", "Fc-Key", "Fc-First", "Fc-Last", "Fc-Append", "Fc-Owner"

_LENGTH_BYTES = 4
_TERMINAL = ("complete", "error")


@dataclass(frozen=True, slots=True)
class LogKey:
    """Names a run's log."""

    tenant_id: str
    run_id: str

    def subject(self, shards: int) -> str:
        """Subject of the log: fc.run.<shard>.<tenant>.<run>."""
        shard = zlib.crc32(self.run_id.encode()) % shards
        return f"fc.run.{shard}.{token(self.tenant_id)}.{token(self.run_id)}"

    def stream(self, shards: int) -> str:
        """Stream that holds the log."""
        return stream_name(zlib.crc32(self.run_id.encode()) % shards, shards)


def stream_name(shard: int, shards: int) -> str:
    """Stream of a shard; the only one is called FC_RUNS."""
    return "FC_RUNS" if shards == 1 else f"FC_RUNS_{shard}"


@dataclass(frozen=True, slots=True)
class Group:
    """A message of the log, opened. `first` and `last` are event numbers; a takeover record has no events."""

    sequence: int
    kind: str
    first: int
    last: int
    events: Sequence[bytes]
    append_id: str

    def after(self, number: int) -> Sequence[bytes]:
        """Events numbered above `number`."""
        return self.events[max(0, number + 1 - self.first) :] if self.events else ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A group to be appended, before it is sealed."""

    kind: str
    first: int
    last: int
    body: bytes
    append_id: str


def draft(events: Sequence[bytes], fence: int) -> Draft:
    """Put events (serialized RunEvents, numbered without gaps) into one group."""
    first, final = RunEvent.FromString(events[0]), RunEvent.FromString(events[-1])
    if not first.sequence or final.sequence - first.sequence != len(events) - 1:
        raise ValueError("events of a group are numbered from 1 without gaps")
    body = b"".join(len(event).to_bytes(_LENGTH_BYTES, "big") + event for event in events)
    kind = FINAL if final.WhichOneof("payload") in _TERMINAL else EVENTS
    return Draft(kind, first.sequence, final.sequence, body, _content_key(body, fence))


def takeover(owner: str, last: int, fence: int) -> Draft:
    """The unnumbered record that fences the owner before."""
    return Draft(TAKEOVER, 0, last, owner.encode(), _content_key(owner.encode(), fence))


def seal(group: Draft, key: LogKey, keyring: Keyring) -> tuple[bytes, dict[str, str]]:
    """Payload and headers of a group."""
    key_id, data = keyring.seal(key.tenant_id, group.body, key.run_id.encode())
    headers = {
        KIND: group.kind,
        KEY_ID: key_id,
        FIRST: str(group.first),
        LAST: str(group.last),
        APPEND: group.append_id,
    }
    return data, headers


def open_group(message: Stored, key: LogKey, keyring: Keyring) -> Group:
    """The group in a message. STORAGE_UNAVAILABLE if it is damaged or another tenant's."""
    headers = message.headers
    kind = headers[KIND]
    body = keyring.open(key.tenant_id, headers[KEY_ID], message.data, key.run_id.encode())
    events = () if kind == TAKEOVER else _split(body)
    return Group(message.sequence, kind, int(headers[FIRST]), int(headers[LAST]), events, headers[APPEND])


def _split(body: bytes) -> list[bytes]:
    events, position = [], 0
    while position < len(body):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(body[position:start], "big")
        events.append(body[start:position])
    return events


def _content_key(body: bytes, fence: int) -> str:
    return hashlib.blake2b(body + fence.to_bytes(8, "big"), digest_size=12).hexdigest()
