"""What a job is, and how it travels."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fastchat.common.v1.principal_pb2 import Principal
from kit.bus import Delivery
from kit.telemetry import REQUEST_ID

KIND, KEY, TENANT, PRINCIPAL, QUEUE = "Fc-Kind", "Fc-Job-Key", "Fc-Tenant", "Fc-Principal", "Fc-Queue"
REASON, DELIVERIES, FAILED_AT, SUBJECT, STREAM = (
    "Fc-Reason",
    "Fc-Deliveries",
    "Fc-Failed-At",
    "Fc-Subject",
    "Fc-Stream",
)
TRACE = ("traceparent", "tracestate", REQUEST_ID)

# A job may run for long; calls that it makes are signed anew, for a minute each, from this principal.
_PRINCIPAL_LIFE_S = 24 * 3600


class Retry(Exception):  # an answer of the handler, not a failure
    """Raised by a handler: not now, hand the job out again after the delay. Does not count as a failure in logs."""

    def __init__(self, delay_s: float = 1.0) -> None:
        super().__init__(f"again in {delay_s} s")
        self.delay_s = delay_s


class Abandon(Exception):  # an answer of the handler, not a failure
    """Raised by a handler that found another worker on its job: the delivery is left alone.

    An acknowledgement from here would take the job from whoever works on it now, and lose it if that worker dies.
    """


@dataclass(frozen=True, slots=True)
class Job:
    """A job in the hands of a worker. Its principal and trace are bound while the handler runs."""

    queue: str
    kind: str
    key: str
    """Content key: two jobs with one key are the same work."""
    payload: bytes
    deliveries: int
    """How often it has been handed out, this time included."""
    tenant_id: str
    principal: Principal | None

    @classmethod
    def of(cls, delivery: Delivery, queue: str) -> "Job":
        """Read a delivery; the principal is issued anew, since a job outlives tokens."""
        headers = delivery.headers
        return cls(
            queue=queue,
            kind=headers.get(KIND, ""),
            key=headers.get(KEY, ""),
            payload=delivery.data,
            deliveries=delivery.deliveries,
            tenant_id=headers.get(TENANT, ""),
            principal=_reissued(headers.get(PRINCIPAL, "")),
        )


def headers_of(
    queue: str, kind: str, key: str, principal: Principal | None, trace: Mapping[str, str]
) -> dict[str, str]:
    """Headers of a new job."""
    headers = {QUEUE: queue, KIND: kind, KEY: key, **{name: trace[name] for name in TRACE if name in trace}}
    if principal is not None:
        headers[TENANT] = principal.tenant_id
        headers[PRINCIPAL] = base64.b64encode(principal.SerializeToString()).decode()
    return headers


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace that the job carries, for kit.telemetry.continued."""
    return {name: headers[name] for name in TRACE if name in headers}


def _reissued(encoded: str) -> Principal | None:
    if not encoded:
        return None
    principal = Principal.FromString(base64.b64decode(encoded))
    principal.issued_at = int(time.time())
    principal.expires_at = principal.issued_at + _PRINCIPAL_LIFE_S
    return principal
