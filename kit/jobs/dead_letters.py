"""Jobs that never succeeded: kept with their reason until somebody redrives or deletes them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from kit.bus import Bus, Delivery, Stored, StreamSpec, token
from kit.errors import PlatformError
from kit.jobs import job as wire
from kit.paging import decode_token, encode_token

_STREAM = "FC_DEAD"
_SPEC = StreamSpec(_STREAM, ["fc.dead.>"])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead job. `id` names it for redrive and delete."""

    id: str
    queue: str
    kind: str
    key: str
    tenant_id: str
    reason: str
    deliveries: int
    failed_at: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """A page, oldest first; an empty token means that there is no more."""

    letters: list[DeadLetter]
    next_page_token: str


async def bury(bus: Bus, delivery: Delivery, stream: str, reason: str) -> None:
    """Move a delivery to the dead letters. Buried twice (a crash in between), it is still one letter."""
    await bus.ensure_stream(_SPEC)
    headers = {name: value for name, value in delivery.headers.items() if not name.startswith("Nats-")}
    headers[wire.REASON] = reason[:200]
    headers[wire.DELIVERIES] = str(delivery.deliveries)
    headers[wire.FAILED_AT] = datetime.now(UTC).isoformat()
    headers[wire.SUBJECT] = delivery.stored.subject
    headers[wire.STREAM] = stream
    subject = f"fc.dead.{token(headers.get(wire.QUEUE, ''))}.{token(headers.get(wire.TENANT, ''))}"
    message_id = f"dead:{stream}:{delivery.stored.sequence}"
    await bus.append(subject, delivery.data, headers=headers, message_id=message_id)
    await delivery.discard()


class DeadLetters:
    """The dead letters of all queues."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def list(
        self, queue: str | None = None, tenant_id: str | None = None, *, page_size: int = 50, page_token: str = ""
    ) -> DeadLetterPage:
        """Dead letters of a queue and a tenant (None: of all), oldest first."""
        await self._bus.ensure_stream(_SPEC)
        after = int(decode_token(page_token, 1)[0]) if page_token else 0
        subject = f"fc.dead.{_filter(queue)}.{_filter(tenant_id)}"
        found = await self._bus.read_range(_STREAM, subject, after=after, at_most=page_size + 1)
        letters = [_letter(stored) for stored in found[:page_size]]
        more = len(found) > page_size
        return DeadLetterPage(letters, encode_token(found[page_size - 1].sequence) if more else "")

    async def redrive(self, letter_id: str, *, tenant_id: str | None = None) -> DeadLetter:
        """Put the job into its queue again, never handed out yet. NOT_FOUND if there is no such letter."""
        stored = await self._find(letter_id, tenant_id)
        headers = {name: value for name, value in stored.headers.items() if name in _KEPT}
        message_id = f"redrive:{stored.sequence}:{stored.headers[wire.FAILED_AT]}"
        await self._bus.append(stored.headers[wire.SUBJECT], stored.data, headers=headers, message_id=message_id)
        await self._bus.remove(_STREAM, stored.sequence)
        return _letter(stored)

    async def delete(self, letter_id: str, *, tenant_id: str | None = None) -> None:
        """Forget the job. NOT_FOUND if there is no such letter."""
        stored = await self._find(letter_id, tenant_id)
        await self._bus.remove(_STREAM, stored.sequence)

    async def _find(self, letter_id: str, tenant_id: str | None) -> Stored:
        """The letter; another tenant's is as absent as one that never was."""
        await self._bus.ensure_stream(_SPEC)
        sequence = _sequence(letter_id)
        stored = await self._bus.get(_STREAM, sequence) if sequence else None
        if stored is None or (tenant_id is not None and stored.headers.get(wire.TENANT, "") != tenant_id):
            raise PlatformError.not_found("job", letter_id)
        return stored


_KEPT: Mapping[str, None] = dict.fromkeys((wire.QUEUE, wire.KIND, wire.KEY, wire.TENANT, wire.PRINCIPAL, *wire.TRACE))


def _filter(value: str | None) -> str:
    return "*" if value is None else token(value)


def _letter_id(sequence: int) -> str:
    return "job_" + base64.b32encode(sequence.to_bytes(8, "big")).decode().rstrip("=").lower()


def _sequence(letter_id: str) -> int:
    """Stream sequence of a letter's id; 0 for a text that is none."""
    text = letter_id.removeprefix("job_").upper()
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        return 0
    return int.from_bytes(raw, "big") if len(raw) == 8 and letter_id.startswith("job_") else 0


def _letter(stored: Stored) -> DeadLetter:
    headers = stored.headers
    return DeadLetter(
        id=_letter_id(stored.sequence),
        queue=headers.get(wire.QUEUE, ""),
        kind=headers.get(wire.KIND, ""),
        key=headers.get(wire.KEY, ""),
        tenant_id=headers.get(wire.TENANT, ""),
        reason=headers[wire.REASON],
        deliveries=int(headers[wire.DELIVERIES]),
        failed_at=datetime.fromisoformat(headers[wire.FAILED_AT]),
        payload=stored.data,
    )
