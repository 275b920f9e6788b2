"""RunEvents -> chat completion chunks, with the platform's status and usage frames between them.

Bytes around a delta are constants of the run, built once: a text delta costs one JSON string.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from edge.openai.render import usage_json
from edge.projections import sse
from edge.projections.names import FINISH_BY_OUTCOME, STATUS_TYPES, rfc3339
from edge.projections.options import Options
from fastchat.common.v1 import event_pb2 as pb
from kit.errors import PlatformError

_NO_LOGPROBS = b"null"


class ChatProjection:
    """The chunks of one chat run. Feed it the run's events from number 1."""

    def __init__(self, options: Options | None = None) -> None:
        self.number = 0
        self.done = False
        self._options = options or Options()
        self._fixed = options is not None
        self._head = self._tail = b""
        self._chunk: dict[str, Any] = {}
        self._thread_told = False
        self._usage: pb.UsagePayload | None = None

    def feed(self, event: pb.RunEvent) -> list[bytes]:
        """The frames that the event adds, each to be written at once."""
        if event.HasField("token"):
            frames = [self._delta(delta) for delta in event.token.deltas]
        else:
            fold = _FOLDS.get(event.WhichOneof("payload") or "")
            frames = fold(self, event) if fold is not None else []
        # the sentinel is no frame of its own
        self.number += len(frames) - self.done
        return frames

    def _started(self, event: pb.RunEvent) -> list[bytes]:
        started = event.started
        if not self._fixed:
            self._options = Options.of(started)
        self._chunk = {
            "id": started.public_id,
            "object": "chat.completion.chunk",
            "created": started.created,
            "model": started.model,
        }
        self._head = b"data: " + orjson.dumps(self._chunk)[:-1] + b',"choices":[{"index":'
        self._tail = b'}],"usage":null}\n\n' if self._options.include_usage else b"}]}\n\n"
        return [self._frame(i, b'{"role":"assistant","content":"","refusal":null}') for i in range(self._options.n)]

    def _frame(
        self, choice: int, delta: bytes, logprobs: bytes = _NO_LOGPROBS, finish_reason: bytes = b"null"
    ) -> bytes:
        return b'%b%d,"delta":%b,"logprobs":%b,"finish_reason":%b%b' % (
            self._head,
            choice,
            delta,
            logprobs,
            finish_reason,
            self._tail,
        )

    def _delta(self, delta: pb.TokenDelta) -> bytes:
        kind = delta.kind
        if kind == pb.TOKEN_KIND_TEXT:
            body = b'{"content":' + orjson.dumps(delta.text) + b"}"
        elif kind == pb.TOKEN_KIND_REASONING:
            body = b'{"reasoning_content":' + orjson.dumps(delta.text) + b"}"
        elif kind == pb.TOKEN_KIND_REFUSAL:
            body = b'{"refusal":' + orjson.dumps(delta.text) + b"}"
        else:
            body = orjson.dumps(self._call(delta))
        return self._frame(delta.choice_index, body, _logprobs(delta) if delta.logprobs_json else _NO_LOGPROBS)

    def _call(self, delta: pb.TokenDelta) -> dict[str, Any]:
        function: dict[str, Any] = {"arguments": delta.text}
        if delta.tool_name:
            function = {"name": delta.tool_name, **function}
        if self._options.legacy_functions:
            return {"function_call": function}
        call: dict[str, Any] = {"index": delta.tool_index}
        if delta.tool_call_id:
            call |= {"id": delta.tool_call_id, "type": "function"}
        return {"tool_calls": [call | {"function": function}]}

    def _status(self, event: pb.RunEvent) -> list[bytes]:
        if self._options.events != "named" or not self._options.status:
            return []
        status = event.status
        fields: dict[str, Any] = {"type": STATUS_TYPES[status.kind], "message": status.message}
        for name in ("agent", "tool"):
            value = getattr(status, name)
            if value:
                fields[name] = value
        if status.details_json:
            fields["details"] = orjson.loads(status.details_json)
        fields["timestamp"] = rfc3339(event.time)
        return [self._polyglot("status", fields, event.thread_id)]

    def _usage_frame(self, event: pb.RunEvent) -> list[bytes]:
        payload = event.usage
        if payload.is_final:
            self._usage = payload
        if self._options.events != "named" or not self._options.usage:
            return []
        usage, window = payload.usage, payload.context_window
        fields = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "context_window_limit": window,
            "context_utilization_pct": round(100 * usage.total_tokens / window, 1) if window else 0.0,
            "is_final": payload.is_final,
        }
        return [self._polyglot("usage", fields, event.thread_id)]

    def _polyglot(self, name: str, fields: dict[str, Any], thread_id: str) -> bytes:
        """A frame for those who read its name, and a chunk without effect for those who do not."""
        if thread_id and not self._thread_told:
            self._thread_told = True
            fields["thread_id"] = thread_id
        fields |= self._chunk
        fields["choices"] = [{"index": 0, "delta": {}, "finish_reason": None, "logprobs": None}]
        if self._options.include_usage:
            fields["usage"] = None
        return sse.named(name, fields)

    def _complete(self, event: pb.RunEvent) -> list[bytes]:
        reasons = list(event.complete.finish_reasons)
        default = FINISH_BY_OUTCOME[event.complete.outcome]
        reasons += [default] * (self._options.n - len(reasons))
        if self._options.legacy_functions:
            reasons = ["function_call" if reason == "tool_calls" else reason for reason in reasons]
        frames = [
            self._frame(index, b"{}", finish_reason=orjson.dumps(reason or default))
            for index, reason in enumerate(reasons)
        ]
        if self._options.include_usage and self._usage is not None:
            frames.append(sse.data({**self._chunk, "choices": [], "usage": usage_json(self._usage.usage)}))
        return [*frames, self._end()]

    def _error(self, event: pb.RunEvent) -> list[bytes]:
        return [sse.error(PlatformError.from_event(event.error)), self._end()]

    def _end(self) -> bytes:
        self.done = True
        return sse.DONE


_FOLDS: dict[str, Callable[[ChatProjection, pb.RunEvent], list[bytes]]] = {
    "started": ChatProjection._started,
    "status": ChatProjection._status,
    "usage": ChatProjection._usage_frame,
    "complete": ChatProjection._complete,
    "error": ChatProjection._error,
}


def _logprobs(delta: pb.TokenDelta) -> bytes:
    array = delta.logprobs_json.encode()
    if b"\n" in array:
        # a raw line break would end the event
        array = orjson.dumps(orjson.loads(array))
    if delta.kind == pb.TOKEN_KIND_REFUSAL:
        return b'{"content":null,"refusal":%b}' % array
    return b'{"content":%b,"refusal":null}' % array
