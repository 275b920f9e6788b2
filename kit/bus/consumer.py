"""A durable pull consumer, shared by all replicas that open it under one name."""

from collections.abc import Mapping
from dataclasses import dataclass

import nats.errors
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from kit.bus.failures import translated
from kit.bus.messages import Stored


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message handed to this process, to be acknowledged in time."""

    stored: Stored
    deliveries: int
    """How often it has been handed out, this time included."""
    _message: Msg

    @property
    def data(self) -> bytes:
        """Payload."""
        return self.stored.data

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers."""
        return self.stored.headers

    async def ack(self) -> None:
        """It is done. Waits until the server knows."""
        with translated():
            await self._message.ack_sync(timeout=2.0)

    async def retry(self, delay_s: float) -> None:
        """Hand it out again, to anybody, after a delay."""
        with translated():
            await self._message.nak(delay=delay_s or None)

    async def discard(self) -> None:
        """Never hand it out again."""
        with translated():
            await self._message.term()

    async def extend(self) -> None:
        """It is still being worked on: the time to acknowledge begins anew."""
        with translated():
            await self._message.in_progress()


class Consumer:
    """Hands out messages one by one."""

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def next(self, timeout_s: float) -> Delivery | None:
        """The next message, or None when there was none in time."""
        with translated():
            try:
                message, *_ = await self._subscription.fetch(1, timeout=timeout_s)
            except (TimeoutError, nats.errors.TimeoutError):
                return None
            told = message.metadata
            stored = Stored(message.subject, told.sequence.stream, message.data, message.headers or {}, told.timestamp)
            return Delivery(stored, told.num_delivered, message)

    async def close(self) -> None:
        """Stop asking for messages; the durable consumer stays."""
        with translated():
            await self._subscription.unsubscribe()
