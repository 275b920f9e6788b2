"""How a new leg goes on where a lost one stopped: what a reader saw is never retracted, repeated or reordered.

Plain text is continued from what was delivered. For tool arguments, a JSON schema, log probabilities,
refusals and several choices a leg is accepted only as far as it repeats what was delivered and then extends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import orjson

from fastchat.common.v1.event_pb2 import TokenDelta, TokenKind, TokenPayload
from fastchat.common.v1.usage_pb2 import LegUsage
from fastchat.integration.v1.model_service_pb2 import ModelCall
from kit.errors import PlatformError, Reason
from orchestrator.fold import Delivered, Output, OutputKey

_TEXT = TokenKind.TOKEN_KIND_TEXT
_REASONING = TokenKind.TOKEN_KIND_REASONING


class Leg(Protocol):
    """What one leg asks for, and what of its output is news to the readers."""

    continue_from: str

    def accept(self, token: TokenPayload) -> TokenPayload | None:
        """What readers have not seen; None: nothing. Raises UPSTREAM_INTERRUPTED if it contradicts what they saw."""
        ...

    def finish(self) -> None:
        """The leg ended. Raises UPSTREAM_INTERRUPTED if it fell short of what readers saw."""
        ...


class FreshLeg:
    """Nothing was delivered: everything is news."""

    continue_from = ""

    def accept(self, token: TokenPayload) -> TokenPayload | None:
        """All of it."""
        return token

    def finish(self) -> None:
        """Always right."""


class ContinuedText:
    """Plain text: the provider goes on after what was delivered.

    Reasoning of the new leg is dropped: readers saw (part of) the first leg's, and it may not follow the answer's text.
    """

    def __init__(self, continue_from: str) -> None:
        self.continue_from = continue_from

    def accept(self, token: TokenPayload) -> TokenPayload | None:
        """All but reasoning."""
        return _payload([delta for delta in token.deltas if delta.kind != _REASONING])

    def finish(self) -> None:
        """Always right."""


class ExtendingLeg:
    """The leg starts over and must first repeat, output by output, exactly what was delivered."""

    continue_from = ""

    def __init__(self, delivered: Delivered) -> None:
        self._expected: dict[OutputKey, Output] = {
            key: output for key, output in delivered.outputs.items() if key.kind != _REASONING
        }
        self._had_reasoning = delivered.has(_REASONING)
        self._rest: dict[OutputKey, str] = {key: output.text for key, output in self._expected.items()}

    def accept(self, token: TokenPayload) -> TokenPayload | None:
        """What goes beyond the repetition."""
        return _payload([news for delta in token.deltas if (news := self._news(delta)) is not None])

    def finish(self) -> None:
        """Checks that everything delivered was repeated."""
        if any(self._rest.values()):
            raise interrupted("the new leg ended before it reached what was already delivered")

    def _news(self, delta: TokenDelta) -> TokenDelta | None:
        if delta.kind == _REASONING:
            return None if self._had_reasoning or self._expected else delta
        key = OutputKey.of(delta)
        expected = self._expected.get(key)
        if expected is None:
            return delta
        if delta.tool_name and delta.tool_name != expected.tool_name:
            raise interrupted("the new leg calls another function")
        rest = self._rest[key]
        text = delta.text
        if not text.startswith(rest[: len(text)]):
            raise interrupted("the new leg differs from what was already delivered")
        self._rest[key] = rest[len(text) :]
        if len(text) <= len(rest):
            return None
        return _beyond(delta, len(rest))


def _payload(deltas: list[TokenDelta]) -> TokenPayload | None:
    return TokenPayload(deltas=deltas) if deltas else None


def _beyond(delta: TokenDelta, repeated: int) -> TokenDelta:
    """The part of a delta after ``repeated`` characters. The call's id and name are known to readers already."""
    news = TokenDelta()
    news.CopyFrom(delta)
    news.text = delta.text[repeated:]
    news.tool_call_id = news.tool_name = ""
    if delta.logprobs_json and repeated:
        news.logprobs_json = _logprobs_beyond(delta.logprobs_json, repeated)
    return news


def _logprobs_beyond(logprobs_json: str, repeated: int) -> str:
    """Entries after the first ``repeated`` characters; the cut must fall between two tokens."""
    entries = orjson.loads(logprobs_json)
    at = 0
    for index, entry in enumerate(entries):
        if at == repeated:
            return orjson.dumps(entries[index:]).decode()
        at += len(entry["token"])
    if at == repeated:
        return "[]"
    raise interrupted("the new leg's tokens do not line up with what was already delivered")


def interrupted(message: str) -> PlatformError:
    """The end of a run whose answer cannot be continued faithfully."""
    return PlatformError(Reason.UPSTREAM_INTERRUPTED, f"The answer was interrupted and cannot be continued: {message}.")


def must_extend(call: ModelCall, delivered: Delivered) -> bool:
    """Whether a new leg of this call has to repeat what was delivered, instead of going on from it."""
    return bool(
        (call.tools and delivered.has(TokenKind.TOKEN_KIND_TOOL_ARGUMENTS))
        or (call.response_format_json and _is_structured(call.response_format_json))
        or call.options.logprobs
        or call.options.n > 1
        or delivered.has(TokenKind.TOKEN_KIND_REFUSAL, TokenKind.TOKEN_KIND_TOOL_ARGUMENTS)
    )


def _is_structured(response_format_json: str) -> bool:
    try:
        shape = orjson.loads(response_format_json)
    except orjson.JSONDecodeError:
        return True
    return not (isinstance(shape, dict) and shape.get("type") == "text")


def next_leg(call: ModelCall, delivered: Delivered) -> Leg:
    """How the next leg of a call goes on from what was delivered."""
    if delivered.empty:
        return FreshLeg()
    if must_extend(call, delivered):
        return ExtendingLeg(delivered)
    return ContinuedText(delivered.text())


def call_for(call: ModelCall, leg: Leg, earlier_legs: Sequence[LegUsage]) -> ModelCall:
    """The call that a leg makes; the very same object when nothing was lost before."""
    if not leg.continue_from and not earlier_legs:
        return call
    continued = ModelCall()
    continued.CopyFrom(call)
    continued.continue_from = leg.continue_from
    del continued.earlier_legs[:]
    continued.earlier_legs.extend(earlier_legs)
    return continued
