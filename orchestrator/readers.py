"""Who reads which durable run: counted here, and asked of the other replicas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import orjson

from kit.bus import Bus
from orchestrator.feed import RunKey
from orchestrator.measures import READERS

SUBJECT = "fc.orchestrator.readers"


class Readers:
    """Readers of this replica and, by asking, of all. ``wait_s``: how long others have to answer."""

    def __init__(self, bus: Bus, replica: str, wait_s: float) -> None:
        self._bus = bus
        self._replica = replica
        self._wait_s = wait_s
        self._local: Counter[RunKey] = Counter()

    @contextmanager
    def reading(self, key: RunKey) -> Iterator[None]:
        """Counts a reader while it reads."""
        self._local[key] += 1
        READERS.inc()
        try:
            yield
        finally:
            READERS.dec()
            self._local[key] -= 1
            if not self._local[key]:
                del self._local[key]

    def local(self, key: RunKey) -> int:
        """Readers on this replica."""
        return self._local[key]

    async def count(self, keys: Iterable[RunKey]) -> dict[RunKey, int]:
        """Readers over all replicas that answer in time. A replica that is gone has no readers."""
        wanted = list(keys)
        counts = {key: self._local[key] for key in wanted}
        if not wanted:
            return counts
        question = orjson.dumps({"from": self._replica, "runs": wanted})
        for answer in await self._bus.request_many(SUBJECT, question, timeout_s=self._wait_s):
            for key, readers in zip(wanted, orjson.loads(answer), strict=True):
                counts[key] += readers
        return counts

    def answer(self, question: bytes) -> bytes | None:
        """This replica's counts for another's question; None for its own."""
        asked = orjson.loads(question)
        if asked["from"] == self._replica:
            return None
        return orjson.dumps([self._local[(tenant, run)] for tenant, run in asked["runs"]])
