"""A reader of one SSE stream in a thread of its own, that knows when each of its frames came."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

_SILENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One `data:` line, and when it came (time.monotonic())."""

    at: float
    data: str


class Reading:
    """A stream that is being read. Leave it by `with`, or `leave`, which closes the connection."""

    def __init__(
        self, method: str, url: str, key: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        self.began = time.monotonic()
        self.status = 0
        """HTTP status; 0 until there is one."""
        self.headers: Mapping[str, str] = {}
        self.frames: list[Frame] = []
        self.broken = ""
        """How the connection failed; empty when it was read to the end of its body."""
        self.over = False
        self._changed = threading.Condition()
        # connect without retries or pools: one connection is one reader
        self._client = httpx.Client(timeout=httpx.Timeout(_SILENCE_S), headers={"authorization": f"Bearer {key}"})
        self._request = self._client.build_request(
            method, url, json=body, headers=dict(headers), extensions={"trace": self._traced}
        )
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leave()

    def wait(self, condition: Callable[[], object], timeout_s: float = 30) -> None:
        """Wait until something holds of this reading; AssertionError when it does not in time, or cannot any more."""
        with self._changed:
            held = self._changed.wait_for(lambda: condition() or self.over, timeout_s)
        assert condition(), f"{'the stream ended' if held else f'not within {timeout_s} s'}: {self.story()}"

    def wait_words(self, words: int, timeout_s: float = 30) -> None:
        """Wait until the text has so many words."""
        self.wait(lambda: len(self.text.split()) >= words, timeout_s)

    def wait_over(self, timeout_s: float = 60) -> Self:
        """Wait for the end of the body, or of the connection."""
        self.wait(lambda: self.over, timeout_s)
        return self

    def ends_within(self, seconds: float) -> bool:
        """Let so much time pass, unless it ends before; whether it did."""
        with self._changed:
            return self._changed.wait_for(lambda: self.over, seconds)

    def leave(self) -> None:
        """Close the connection, as a reader does who is gone."""
        if self._socket is not None and not self.over:
            # the thread waits for data: the socket is taken away under it
            with contextlib.suppress(OSError):  # the other side may have closed it
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._client.close()

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The frames' JSON."""
        return [json.loads(frame.data) for frame in list(self.frames) if frame.data != "[DONE]"]

    @property
    def text(self) -> str:
        """What the first choice says."""
        return "".join(text_of(chunk) for chunk in self.chunks)

    @property
    def finish_reasons(self) -> list[str]:
        """Every reason to finish that was told."""
        choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        return [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error frame, if there is one."""
        return next((chunk["error"] for chunk in self.chunks if "error" in chunk), None)

    @property
    def ended(self) -> bool:
        """Whether the stream had its proper end: [DONE] once, as its last frame, and nothing broke."""
        dones = [frame for frame in self.frames if frame.data == "[DONE]"]
        return self.over and not self.broken and dones == self.frames[-1:]

    @property
    def longest_gap_s(self) -> float:
        """The longest time without a frame, from the request on."""
        times = [self.began, *(frame.at for frame in self.frames)]
        return max((after - before for before, after in itertools.pairwise(times)), default=float("inf"))

    def story(self) -> str:
        """What happened, for an assertion's message."""
        last = [frame.data[:300] for frame in self.frames[-3:]]
        run = self.headers.get("x-fastchat-run-id", "")
        return f"status {self.status}, run {run}, {len(self.frames)} frames, broken: {self.broken!r}, last: {last}"

    def _read(self) -> None:
        try:
            response = self._client.send(self._request, stream=True)
            self._tell(status=response.status_code, headers=response.headers)
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        self._add(line.removeprefix("data: "))
            else:
                self._add(response.read().decode())
            response.close()
        except (httpx.HTTPError, httpx.StreamError, OSError) as problem:
            self.broken = repr(problem)
        self._tell(over=True)

    def _traced(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._socket = told["return_value"].get_extra_info("socket")

    def _add(self, data: str) -> None:
        with self._changed:
            self.frames.append(Frame(time.monotonic(), data))
            self._changed.notify_all()

    def _tell(self, **what: Any) -> None:
        with self._changed:
            for name, value in what.items():
                setattr(self, name, value)
            self._changed.notify_all()


def text_of(chunk: Mapping[str, Any]) -> str:
    """Content of a chunk's first choice."""
    choices = [choice for choice in chunk.get("choices", ()) if choice["index"] == 0]
    return "".join(choice["delta"].get("content") or "" for choice in choices)
