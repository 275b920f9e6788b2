"""How a new leg goes on where a lost one stopped: nothing that was delivered is retracted, repeated or reordered.

`Fresh`: nothing was delivered. `Continuation`: plain text; the leg is asked to go on, and if it begins by repeating
what was delivered, the repetition is swallowed. `Extension`: everything else; the leg answers anew and is accepted
only as far as it repeats what was delivered and then extends it, else UPSTREAM_INTERRUPTED.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from fastchat.common.v1.event_pb2 import TokenKind
from integration.models.port import REASONING, TEXT, TOOL_ARGUMENTS, Delta, Json
from kit.errors import PlatformError, Reason

Key = tuple[TokenKind.ValueType, int, int]


@dataclass(slots=True)
class Output:
    """One output as it was delivered."""

    parts: list[str] = field(default_factory=list)
    tool_name: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""


class Delivered:
    """Everything that readers have seen of an answer."""

    def __init__(self, text: str = "") -> None:
        self.outputs: dict[Key, Output] = {}
        self.logprobs = False
        if text:
            self.outputs[(TEXT, 0, 0)] = Output([text])

    def __bool__(self) -> bool:
        return bool(self.outputs)

    def add(self, deltas: Iterable[Delta]) -> None:
        """Take note of what goes out."""
        for delta in deltas:
            key = (delta.kind, delta.choice, delta.tool_index)
            output = self.outputs.get(key)
            if output is None:
                output = self.outputs[key] = Output()
            output.parts.append(delta.text)
            output.tool_name = output.tool_name or delta.tool_name
            self.logprobs = self.logprobs or delta.logprobs is not None

    @property
    def text(self) -> str:
        """Answer text of choice 0."""
        output = self.outputs.get((TEXT, 0, 0))
        return output.text if output else ""

    @property
    def everything(self) -> str:
        """All that was delivered, as one text to count tokens of."""
        return "\n".join(output.tool_name + output.text for output in self.outputs.values())

    def is_plain(self) -> bool:
        """Whether only text and reasoning of the one choice were delivered, without log probabilities."""
        plain = {(TEXT, 0, 0), (REASONING, 0, 0)}
        return not self.logprobs and self.outputs.keys() <= plain


class Splice(Protocol):
    """What of a leg's output is news to the readers."""

    prefill: str
    """Text that the leg is asked to go on from."""

    def accept(self, deltas: list[Delta]) -> list[Delta]:
        """The news. Raises UPSTREAM_INTERRUPTED if the leg contradicts what was delivered."""
        ...

    def finish(self) -> list[Delta]:
        """The leg ended: what is still news. Raises UPSTREAM_INTERRUPTED if it fell short of what was delivered."""
        ...


def splice_for(delivered: Delivered, params: Json) -> Splice:
    """The splice for the next leg of a call with those parameters."""
    if not delivered:
        return Fresh()
    shaped = (params.get("response_format") or {}).get("type", "text") != "text"
    strict = shaped or params.get("logprobs") or params.get("n", 1) > 1
    if not strict and delivered.is_plain():
        return Continuation(delivered.text)
    return Extension(delivered)


class Fresh:
    """Nothing was delivered: everything is news."""

    prefill = ""

    def accept(self, deltas: list[Delta]) -> list[Delta]:
        """All of it."""
        return deltas

    def finish(self) -> list[Delta]:
        """Nothing is held back."""
        return []


class Continuation:
    """Plain text goes on from its end.

    White space at the end is not sent (some providers refuse it there); if the leg begins with it, it is swallowed,
    as is a repetition of the whole text. Reasoning of the new leg is dropped: it may not follow the answer's text.
    """

    def __init__(self, text: str) -> None:
        self.prefill = text.rstrip()
        self._repetitions = [part for part in (text, text[len(self.prefill) :]) if part]
        self._held = ""
        self._merged = 0
        self._open = bool(self._repetitions)

    def accept(self, deltas: list[Delta]) -> list[Delta]:
        """Text past the repetition, and tool calls."""
        news: list[Delta] = []
        for delta in deltas:
            if delta.kind == REASONING:
                continue
            if self._open and delta.kind == TEXT and delta.choice == 0:
                news.extend(self._hold(delta))
            else:
                news.extend(self.finish())
                news.append(delta)
        return news

    def finish(self) -> list[Delta]:
        """What was held is no repetition, since nothing completed it."""
        held, self._held, self._open = self._held, "", False
        if not held or held in self._repetitions:
            return []
        return [Delta(TEXT, held, merged=max(1, self._merged))]

    def _hold(self, delta: Delta) -> list[Delta]:
        self._held += delta.text
        self._merged += delta.merged
        if any(whole != self._held and whole.startswith(self._held) for whole in self._repetitions):
            return []
        repeated = next((len(whole) for whole in self._repetitions if self._held.startswith(whole)), 0)
        held, self._held, self._open = self._held[repeated:], "", False
        return [Delta(TEXT, held, merged=self._merged)] if held else []


class Extension:
    """The leg must repeat what was delivered, output by output, and then extend it."""

    prefill = ""

    def __init__(self, delivered: Delivered) -> None:
        self._names = {key: output.tool_name for key, output in delivered.outputs.items()}
        self._owed = {key: output.text for key, output in delivered.outputs.items()}

    def accept(self, deltas: list[Delta]) -> list[Delta]:
        """What lies past the delivered text of each output."""
        news = [self._past(delta) for delta in deltas]
        return [delta for delta in news if delta is not None]

    def finish(self) -> list[Delta]:
        """Every output must have been repeated whole; reasoning may be shorter, it is no answer."""
        if any(owed for key, owed in self._owed.items() if key[0] != REASONING):
            raise contradicted()
        return []

    def _past(self, delta: Delta) -> Delta | None:
        key = (delta.kind, delta.choice, delta.tool_index)
        if key not in self._owed:
            return delta
        if delta.kind == REASONING:
            return None
        if delta.tool_name:
            if delta.tool_name != self._names[key]:
                raise contradicted()
            delta.tool_name = delta.tool_call_id = ""
        return self._cut(delta, key)

    def _cut(self, delta: Delta, key: Key) -> Delta | None:
        owed = self._owed[key]
        if len(delta.text) <= len(owed):
            if not owed.startswith(delta.text):
                raise contradicted()
            self._owed[key] = owed[len(delta.text) :]
            return None
        if not delta.text.startswith(owed):
            raise contradicted()
        self._owed[key] = ""
        delta.logprobs = _logprobs_past(delta.logprobs, len(owed))
        delta.text = delta.text[len(owed) :]
        if key[0] == TOOL_ARGUMENTS:
            delta.tool_call_id = ""
        return delta


def _logprobs_past(logprobs: list[Json] | None, length: int) -> list[Json] | None:
    """Log probabilities of what lies past the first `length` characters; the boundary must be one of tokens."""
    if logprobs is None:
        return None
    position = 0
    for count, entry in enumerate(logprobs):
        if position >= length:
            return logprobs[count:]
        position += len(entry.get("token", ""))
        if position > length:
            raise contradicted()
    return []


def contradicted() -> PlatformError:
    """A new leg does not extend what readers saw."""
    message = "The provider's answer broke off and could not be continued."
    return PlatformError(Reason.UPSTREAM_INTERRUPTED, message)
