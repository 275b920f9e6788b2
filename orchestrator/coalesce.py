"""Merging what waits: one message costs more than ten tokens, so deltas that queue up leave together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from fastchat.common.v1.event_pb2 import TokenDelta, TokenPayload
from orchestrator.events import Payload


def merge_deltas(deltas: Iterable[TokenDelta]) -> list[TokenDelta]:
    """Neighbours that extend the same output become one delta; order and text stay what they were."""
    merged: list[TokenDelta] = []
    waiting: list[TokenDelta] = []
    for delta in deltas:
        if waiting and not _extends(waiting[0], delta):
            merged.append(_join(waiting))
            waiting = []
        waiting.append(delta)
    if waiting:
        merged.append(_join(waiting))
    return merged


def _extends(first: TokenDelta, delta: TokenDelta) -> bool:
    """A delta that opens a tool call, or differs in having log probabilities, starts anew."""
    return (
        first.kind == delta.kind
        and first.choice_index == delta.choice_index
        and first.tool_index == delta.tool_index
        and first.item_id == delta.item_id
        and not delta.tool_call_id
        and not delta.tool_name
        and bool(first.logprobs_json) == bool(delta.logprobs_json)
    )


def _join(deltas: Sequence[TokenDelta]) -> TokenDelta:
    if len(deltas) == 1:
        return deltas[0]
    joined = TokenDelta()
    joined.CopyFrom(deltas[0])
    joined.text = "".join(delta.text for delta in deltas)
    joined.merged = sum(max(1, delta.merged) for delta in deltas)
    if joined.logprobs_json:
        joined.logprobs_json = _join_arrays([delta.logprobs_json for delta in deltas])
    return joined


def _join_arrays(arrays: Iterable[str]) -> str:
    """JSON arrays end to end, without parsing them."""
    inner = (array.strip()[1:-1].strip() for array in arrays)
    return "[" + ",".join(items for items in inner if items) + "]"


def merge(payloads: Sequence[Payload]) -> list[Payload]:
    """Token payloads next to each other become one; everything else keeps its place."""
    merged: list[Payload] = []
    tokens: list[TokenPayload] = []
    for payload in payloads:
        if isinstance(payload, TokenPayload):
            tokens.append(payload)
            continue
        if tokens:
            merged.append(_merge_tokens(tokens))
            tokens = []
        merged.append(payload)
    if tokens:
        merged.append(_merge_tokens(tokens))
    return merged


def _merge_tokens(payloads: Sequence[TokenPayload]) -> TokenPayload:
    if len(payloads) == 1:
        return payloads[0]
    return TokenPayload(deltas=merge_deltas(delta for payload in payloads for delta in payload.deltas))


class SinkClosed(Exception):  # says what is, to the one who emits
    """Nothing more can be emitted: the taker failed, or the run's log has its end. The taker knows why."""


class Buffer:
    """Bounded hand-over between the one who makes payloads and the one who sends them.

    ``put`` waits while more than ``max_bytes`` are pending; ``take`` hands over, merged, whatever
    arrived since the last take, at most about ``batch_bytes`` at once.
    """

    def __init__(self, max_bytes: int = 256 * 1024, batch_bytes: int = 128 * 1024) -> None:
        self._max_bytes = max_bytes
        self._batch_bytes = batch_bytes
        self._pending: deque[tuple[Payload, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False

    async def put(self, payload: Payload) -> None:
        """Adds a payload. Raises SinkClosed when nobody takes any more."""
        if not self._room.is_set():
            await self._room.wait()
        if self._closed:
            raise SinkClosed
        size = payload.ByteSize()
        self._pending.append((payload, size))
        self._bytes += size
        if self._bytes > self._max_bytes:
            self._room.clear()
        self._arrived.set()

    async def take(self) -> list[Payload]:
        """What is pending, merged; waits for something. Empty: closed, and nothing is left."""
        while not self._pending:
            if self._closed:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        taken: list[Payload] = []
        size = 0
        while self._pending and (not taken or size + self._pending[0][1] <= self._batch_bytes):
            payload, payload_size = self._pending.popleft()
            taken.append(payload)
            size += payload_size
        self._bytes -= size
        if self._bytes <= self._max_bytes:
            self._room.set()
        return merge(taken)

    def close(self) -> None:
        """Nothing more will be put."""
        self._closed = True
        self._arrived.set()

    def abandon(self) -> None:
        """The taker cannot go on: what is pending is dropped, and whoever puts learns of it."""
        self._closed = True
        self._pending.clear()
        self._bytes = 0
        self._arrived.set()
        self._room.set()
