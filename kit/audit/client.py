"""Recording audit events, and carrying them to control."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from fastchat.common.v1.principal_pb2 import Principal
from fastchat.control.v1.audit_service_pb2 import AppendAuditEventsRequest, AuditDecision, AuditEvent
from kit.audit.spool import Spool
from kit.bus import Bus
from kit.errors import PlatformError
from kit.ids import new_uuid
from kit.jobs import Job, JobQueue
from kit.policy import Decision
from kit.principal import current_or_none
from kit.telemetry import current_request_id, current_trace_id

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

STREAM = "FC_AUDIT"
_QUEUE, _KIND = "audit", "events"
_SPOOL_BYTES = 256 * 1024 * 1024
# As many as control's AppendAuditEvents takes, and well below a message's size.
_BATCH = 200
_AWAY_S = (0.2, 5.0)
# Events that arrive within this time travel as one message.
_GATHER_S = 0.05
_FULL_S = 5.0


def audit_queue(bus: Bus) -> JobQueue:
    """The queue that control works on: its jobs hold serialized AppendAuditEventsRequests (see `events_of`).

    Jobs are never dead letters in practice: control stores an event once, and a full disk is waited for.
    """
    return JobQueue(bus, _QUEUE, stream=STREAM, ack_wait_s=10.0, max_deliver=1_000_000)


def events_of(job: Job) -> Sequence[AuditEvent]:
    """Events of one of the queue's jobs."""
    return AppendAuditEventsRequest.FromString(job.payload).events


class Audit:
    """The audit client of a service: `async with Audit(...) as audit`, which owns the task that carries events.

    An event is in a file when `record` returns, and leaves the file when the bus has it: neither a slow control, nor a
    bus that is away, nor the end of this process loses it.
    """

    def __init__(self, bus: Bus | None, spool_dir: Path, service: str, *, limit_bytes: int = _SPOOL_BYTES) -> None:
        self._queue = audit_queue(bus) if bus is not None else None
        self._service = service
        self._spool = Spool(spool_dir, limit_bytes)
        self._recorded = asyncio.Event()
        self._carried = asyncio.Event()
        self._carrier: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Audit":
        if self._queue is not None:
            self._carrier = asyncio.create_task(self.run(), name=f"audit.{self._service}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._carrier is not None:
            self._carrier.cancel()
            await asyncio.wait({self._carrier})
        await self.close()

    async def record(
        self,
        *,
        action: str,
        resource_type: str = "",
        resource_id: str = "",
        decision: Decision | None = None,
        outcome: str = "ok",
        input: bytes | None = None,
        output: bytes | None = None,
        cost_micros: int = 0,
        latency_ms: int = 0,
        details: Mapping[str, Any] | None = None,
        principal: Principal | None = None,
    ) -> AuditEvent:
        """Record what was done, or refused; `principal` defaults to the task's. Takes about 20 us; returns the event.

        Of `input` and `output` only the SHA-256 is kept; `details` hold no content and no secrets. Waits while the
        spool is full, five seconds at most, then STORAGE_UNAVAILABLE: what cannot be recorded may not be done.
        """
        who = principal or current_or_none() or Principal()
        event = AuditEvent(
            event_id=new_uuid(),
            tenant_id=who.tenant_id,
            workspace_id=who.workspace_id,
            subject=who.subject,
            act_for=who.act_for,
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            decision=_decision(decision),
            rule_ids=decision.rule_ids if decision else (),
            input_hash=_digest(input),
            output_hash=_digest(output),
            cost_micros=cost_micros,
            latency_ms=max(0, int(latency_ms)),
            outcome=outcome,
            trace_id=current_trace_id(),
            request_id=current_request_id(),
            service=self._service,
            details_json=json.dumps(dict(details)) if details else "",
        )
        event.time.FromNanoseconds(time.time_ns())
        await self._keep(event.SerializeToString())
        return event

    async def run(self) -> None:
        """Carry events to the bus until cancelled, through every absence of it."""
        delay_s = _AWAY_S[0]
        while True:
            if self._spool.empty:
                await self._recorded.wait()
            await asyncio.sleep(_GATHER_S)
            self._recorded.clear()
            try:
                await self.flush()
                delay_s = _AWAY_S[0]
            except (PlatformError, OSError) as error:
                log.warning("audit.waiting", why=str(error), retry_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _AWAY_S[1])

    async def flush(self) -> None:
        """Carry what waits now. DEPENDENCY_UNAVAILABLE when the bus is away."""
        if self._queue is None:
            return
        for segment in self._spool.segments():
            events = [AuditEvent.FromString(raw) for raw in self._spool.read(segment)]
            for start in range(0, len(events), _BATCH):
                batch = events[start : start + _BATCH]
                payload = AppendAuditEventsRequest(events=batch).SerializeToString()
                # The same events again, after a crash, are the same job; control drops what still comes twice.
                await self._queue.enqueue(_KIND, payload, key=batch[0].event_id)
            self._spool.remove(segment)
            self._carried.set()

    async def _keep(self, event: bytes) -> None:
        try:
            async with asyncio.timeout(_FULL_S):
                while not self._spool.has_room(event):
                    self._carried.clear()
                    self._recorded.set()
                    await self._carried.wait()
        except TimeoutError:
            log.error("audit.full", service=self._service)
        self._spool.append(event)
        self._recorded.set()

    async def close(self, timeout_s: float = 2.0) -> None:
        """Carry what can be carried in the time; the rest waits in its file for the next start."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.flush()
        except (PlatformError, TimeoutError, OSError) as error:
            log.warning("audit.left_in_spool", why=str(error))
        finally:
            self._spool.close()


def _decision(decision: Decision | None) -> AuditDecision.ValueType:
    if decision is None:
        return AuditDecision.AUDIT_DECISION_UNSPECIFIED
    return AuditDecision.AUDIT_DECISION_ALLOW if decision.allow else AuditDecision.AUDIT_DECISION_DENY


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
