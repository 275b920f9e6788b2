"""Usage on the way: told about every so many completion tokens, to readers who asked for it."""

from __future__ import annotations

from collections.abc import Sequence

from fastchat.common.v1.usage_pb2 import LegUsage, Usage
from integration.models.legs import Leg


class Meter:
    """Decides when usage so far is worth a piece, and counts it. `every` 0: never."""

    def __init__(self, every: int, earlier: Sequence[LegUsage]) -> None:
        self._every = every
        self._next = every
        self._earlier = [leg.usage for leg in earlier]

    def reading(self, legs: Sequence[Leg]) -> Usage | None:
        """Usage so far, when another `every` completion tokens have come."""
        if not self._every or sum(leg.chunks for leg in legs) < self._next:
            return None
        self._next = sum(leg.chunks for leg in legs) + self._every
        spent = Usage(estimated=True)
        for usage in [*self._earlier, *(leg.so_far() for leg in legs)]:
            spent.prompt_tokens += usage.prompt_tokens
            spent.completion_tokens += usage.completion_tokens
            spent.total_tokens += usage.total_tokens
        return spent
