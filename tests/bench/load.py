"""The benchmark's client: raw sockets, so that it costs as little as it can.

Counts MARK in the bytes that arrive; never parses JSON. Run in a process of its
own by run.py; prints one JSON object.

    python -m tests.bench.load --url http://127.0.0.1:8080/v1/chat/completions --key K \
        --model mock --streams 16 --seconds 6
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.bench.upstream import CHUNKS, MARK


@dataclass
class Tally:
    """What one load run saw. Times in seconds."""

    chunks: int = 0
    done: int = 0
    errors: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """Where and what to ask."""

    host: str
    port: int
    path: str
    key: str
    model: str
    stream: bool

    def request(self) -> bytes:
        """The whole HTTP request; the connection is closed after it."""
        body = json.dumps(
            {
                "model": self.model,
                "stream": self.stream,
                "messages": [{"role": "user", "content": "Say sixty-four words, please."}],
            }
        ).encode()
        return (
            f"POST {self.path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        ).encode() + body


async def ask(target: Target, tally: Tally) -> None:
    """Make one request and add what came to the tally."""
    began = time.perf_counter()
    first = 0.0
    chunks = 0
    tail = b""
    head = b""
    try:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(target.request())
        while data := await reader.read(65536):
            if not head:
                head = data[:400]
            found = data.count(MARK)
            if found and not first:
                first = time.perf_counter() - began
            chunks += found
            tail = (tail + data)[-64:]
            if target.stream and b"[DONE]" in tail:
                break
            if not target.stream and chunks >= CHUNKS:
                break
        writer.close()
    except OSError as error:
        tally.errors.append(repr(error))
        return
    if chunks != CHUNKS or (target.stream and b"[DONE]" not in tail):
        tally.errors.append(f"{chunks} chunks: {head[:300]!r}")
        return
    tally.chunks += chunks
    tally.done += 1
    tally.first.append(first)
    tally.total.append(time.perf_counter() - began)


async def closed_loop(target: Target, streams: int, seconds: float) -> tuple[Tally, float]:
    """`streams` askers, each asking again as soon as it is answered."""
    tally = Tally()
    began = time.perf_counter()

    async def asker() -> None:
        while time.perf_counter() - began < seconds and len(tally.errors) < 20:
            await ask(target, tally)

    await asyncio.gather(*(asker() for _ in range(streams)))
    return tally, time.perf_counter() - began


async def one_wave(target: Target, streams: int) -> tuple[Tally, float]:
    """`streams` requests, begun over half a second, each asked once."""
    tally = Tally()
    began = time.perf_counter()

    async def late(i: int) -> None:
        await asyncio.sleep(0.5 * i / streams)
        await ask(target, tally)

    await asyncio.gather(*(late(i) for i in range(streams)))
    return tally, time.perf_counter() - began


def percentile(values: list[float], q: float) -> float:
    """The q-quantile (0 to 1) in milliseconds; nan without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2)


def report(tally: Tally, elapsed: float) -> dict[str, object]:
    """Figures of one run: rates per second, times in milliseconds."""
    return {
        "chunks_per_s": round(tally.chunks / elapsed, 1),
        "requests_per_s": round(tally.done / elapsed, 1),
        "done": tally.done,
        "errors": len(tally.errors),
        "error": tally.errors[0] if tally.errors else None,
        "first_p50_ms": percentile(tally.first, 0.5),
        "first_p95_ms": percentile(tally.first, 0.95),
        "total_p50_ms": round(1000 * statistics.median(tally.total), 2) if tally.total else float("nan"),
        "total_p95_ms": percentile(tally.total, 0.95),
    }


def main() -> None:
    """Parse arguments, run, print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--model", default="mock")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-stream", action="store_true")
    parser.add_argument("--wave", action="store_true", help="each asker asks once")
    args = parser.parse_args()
    url = urlsplit(args.url)
    target = Target(url.hostname or "127.0.0.1", url.port or 80, url.path, args.key, args.model, not args.no_stream)

    async def run() -> dict[str, object]:
        if args.wave:
            return report(*await one_wave(target, args.streams))
        return report(*await closed_loop(target, args.streams, args.seconds))

    import uvloop

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
