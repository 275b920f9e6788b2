"""Reads the bytes of an OpenAI-compatible event stream: many provider chunks in, few merged deltas out.

Lines end at the byte "\\n" and nowhere else: JSON leaves U+2028 and U+2029 unescaped, and a text splitter breaks there.
"""

from __future__ import annotations

from typing import Any

import orjson

from integration.models.port import REASONING, REFUSAL, TEXT, TOOL_ARGUMENTS, Delta, End, Json, Told

_DATA = b"data:"
_DONE = b"[DONE]"
_MAX_LINE = 32 * 1024 * 1024


class MalformedStream(Exception):
    """The stream is not what OpenAI's wire allows."""


class ErrorFrame(Exception):
    """The provider told an error in the middle of its answer."""

    def __init__(self, error: Json | str) -> None:
        super().__init__("error frame")
        self.error: Json = error if isinstance(error, dict) else {"message": str(error)}


class FrameReader:
    """Feed it what each read gave; it answers with what that adds.

    `done`: [DONE] was read. `ended`: every choice seen has its finish reason, or [DONE] was read.
    """

    def __init__(self) -> None:
        self.done = False
        self._rest = b""
        self._finish: dict[int, str | None] = {}
        self._usage: Told | None = None
        self._model = ""
        self._fingerprint = ""
        self._merger = Merger()

    def feed(self, data: bytes) -> list[Delta]:
        """Deltas that the bytes complete. Raises ErrorFrame, MalformedStream."""
        if self._rest:
            data = self._rest + data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE:
            raise MalformedStream("a line is too long")
        for line in lines:
            if line.startswith(_DATA):
                self._line(line)
        return self._merger.take()

    @property
    def ended(self) -> bool:
        """Whether the answer is whole."""
        return self.done or (bool(self._finish) and None not in self._finish.values())

    def flush(self) -> list[Delta]:
        """Deltas of a last line without its line end."""
        return self.feed(b"\n") if self._rest else []

    def end(self) -> End:
        """How the answer ended."""
        finish = {index: reason or "stop" for index, reason in self._finish.items()} or {0: "stop"}
        return End(finish, self._usage, self._model, self._fingerprint)

    def _line(self, line: bytes) -> None:
        payload = line[5:].strip()
        if payload == _DONE:
            self.done = True
            return
        if not payload:
            return
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise MalformedStream("a chunk is not JSON") from error
        self._chunk(chunk)

    def _chunk(self, chunk: Json) -> None:
        if chunk.get("error"):
            raise ErrorFrame(chunk["error"])
        usage = chunk.get("usage")
        if usage:
            self._usage = told(usage)
        if not self._model:
            self._model = chunk.get("model") or ""
            self._fingerprint = chunk.get("system_fingerprint") or ""
        for choice in chunk.get("choices") or ():
            self._choice(choice)

    def _choice(self, choice: Json) -> None:
        index = choice.get("index") or 0
        finish = choice.get("finish_reason")
        if finish:
            self._finish[index] = FINISH.get(finish, finish)
        elif index not in self._finish:
            self._finish[index] = None
        delta = choice.get("delta")
        if delta:
            self._merger.add(index, delta, choice.get("logprobs"))


# Providers' own words for OpenAI's four.
FINISH = {"function_call": "tool_calls", "eos": "stop", "end_turn": "stop", "max_tokens": "length"}


class Merger:
    """Merges neighbouring deltas of the same output."""

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self._parts: list[str] = []

    def take(self) -> list[Delta]:
        """What was merged since the last time."""
        self._seal()
        taken, self._deltas = self._deltas, []
        return taken

    def add(self, index: int, delta: Json, logprobs: Json | None = None) -> None:
        """Take in one chunk's delta of one choice, OpenAI's JSON."""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            self._put(REASONING, index, reasoning)
        content = delta.get("content")
        if content:
            self._put(TEXT, index, content, logprobs.get("content") if logprobs else None)
        refusal = delta.get("refusal")
        if refusal:
            self._put(REFUSAL, index, refusal, logprobs.get("refusal") if logprobs else None)
        for position, call in enumerate(delta.get("tool_calls") or ()):
            self._tool(index, position, call)

    def _tool(self, index: int, position: int, call: Json) -> None:
        function = call.get("function") or {}
        told_index = call.get("index")
        slot = position if told_index is None else told_index
        text = function.get("arguments") or ""
        name, call_id = function.get("name") or "", call.get("id") or ""
        if name:
            self._seal()
            self._deltas.append(Delta(TOOL_ARGUMENTS, "", index, slot, call_id, name))
            self._parts = [text]
        elif text:
            self._put(TOOL_ARGUMENTS, index, text, slot=slot)

    def _put(self, kind: Any, index: int, text: str, logprobs: list[Json] | None = None, slot: int = 0) -> None:
        last = self._deltas[-1] if self._deltas else None
        same = last is not None and last.kind == kind and last.choice == index and last.tool_index == slot
        if last is not None and same and (last.logprobs is None) == (not logprobs):
            self._parts.append(text)
            last.merged += 1
            if logprobs and last.logprobs is not None:
                last.logprobs.extend(logprobs)
            return
        self._seal()
        self._deltas.append(Delta(kind, "", index, slot, logprobs=list(logprobs) if logprobs else None))
        self._parts = [text]

    def _seal(self) -> None:
        if self._deltas and self._parts:
            self._deltas[-1].text = "".join(self._parts)
            self._parts = []


def told(usage: Json) -> Told:
    """OpenAI's usage object."""
    prompt_details = usage.get("prompt_tokens_details") or {}
    completion_details = usage.get("completion_tokens_details") or {}
    return Told(
        prompt=usage.get("prompt_tokens") or 0,
        completion=usage.get("completion_tokens") or 0,
        cached=prompt_details.get("cached_tokens") or usage.get("cache_read_input_tokens") or 0,
        cache_write=prompt_details.get("cache_creation_tokens") or usage.get("cache_creation_input_tokens") or 0,
        reasoning=completion_details.get("reasoning_tokens") or 0,
    )
