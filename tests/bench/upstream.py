"""One OpenAI-compatible mock upstream for every peer of the benchmark.

A raw asyncio protocol, so that the mock is never what is measured. A stream has
`chunks` content chunks, each its own write on its own loop turn, so that peers
see them as a provider sends them. The content of each chunk holds MARK once:
a reader counts delivered chunks by counting MARK, whether or not they were merged.

    python -m tests.bench.upstream --port 9100

The model name carries the pace: `mock` sends as fast as the reader takes it,
`mock-20ms` one chunk every 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re

MARK = b"~"
CHUNKS = 64
_CREATED = 1_700_000_000
_WORDS = ("alpha", "bravo", "delta", "gamma", "kilo", "lima", "oscar", "tango")


def _frame(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One SSE frame of a chat completion chunk, as a provider writes it."""
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": "mock",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _texts() -> list[str]:
    # No two neighbours are equal: LiteLLM aborts a stream of many equal chunks.
    return [f"~{_WORDS[i % len(_WORDS)]}{i} " for i in range(CHUNKS)]


_USAGE = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": 12 + CHUNKS}
_FRAMES = [_frame({"role": "assistant", "content": ""}), *(_frame({"content": t}) for t in _texts())]
_TAIL = (
    _frame({}, "stop")
    + b"data: "
    + json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": "mock",
            "choices": [],
            "usage": _USAGE,
        },
        separators=(",", ":"),
    ).encode()
    + b"\n\ndata: [DONE]\n\n"
)
_WHOLE = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": _CREATED,
        "model": "mock",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "".join(_texts())}, "finish_reason": "stop"}
        ],
        "usage": _USAGE,
    },
    separators=(",", ":"),
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_PACE = re.compile(rb'"model"\s*:\s*"[^"]*?(?:-(\d+)ms)?"')


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    match = re.search(rb"content-length:\s*(\d+)", head, re.IGNORECASE)
    return await reader.readexactly(int(match.group(1))) if match else b"{}"


async def _stream(writer: asyncio.StreamWriter, pace_s: float) -> None:
    writer.write(_HEAD)
    for frame in _FRAMES:
        writer.write(_chunk(frame))
        await writer.drain()
        await asyncio.sleep(pace_s)
    writer.write(_chunk(_TAIL) + b"0\r\n\r\n")
    await writer.drain()


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests on one keep-alive connection until the peer leaves."""
    try:
        while True:
            body = await _read_request(reader)
            if b'"stream":true' in body or b'"stream": true' in body:
                match = _PACE.search(body)
                await _stream(writer, int(match.group(1)) / 1000 if match and match.group(1) else 0)
            else:
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(_WHOLE), _WHOLE)
                )
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    """Serve on loopback until stopped."""
    server = await asyncio.start_server(serve_connection, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(main(parser.parse_args().port))
