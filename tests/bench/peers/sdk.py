"""LiteLLM's SDK in process: no server, its own streams consumed where they are made.

python -m tests.bench.peers.sdk --base http://127.0.0.1:9100/v1 --streams 16 --seconds 6
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


async def run(base: str, streams: int, seconds: float, stream: bool) -> dict[str, float]:
    """Ask in a closed loop; chunks/s and requests/s, first chunk in milliseconds."""
    import litellm

    litellm.suppress_debug_info = True
    chunks = done = 0
    first: list[float] = []

    async def one() -> None:
        nonlocal chunks, done
        began = time.perf_counter()
        answer = await litellm.acompletion(
            model="openai/mock",
            api_base=base,
            api_key="none",
            stream=stream,
            messages=[{"role": "user", "content": "Say sixty-four words, please."}],
        )
        if stream:
            seen = 0
            async for chunk in answer:
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    if not seen:
                        first.append(time.perf_counter() - began)
                    seen += text.count("~")
            chunks += seen
        done += 1

    await one()
    chunks = done = 0
    first.clear()
    began = time.perf_counter()

    async def asker() -> None:
        while time.perf_counter() - began < seconds:
            await one()

    await asyncio.gather(*(asker() for _ in range(streams)))
    elapsed = time.perf_counter() - began
    first.sort()
    return {
        "chunks_per_s": round(chunks / elapsed, 1),
        "requests_per_s": round(done / elapsed, 1),
        "first_p50_ms": round(1000 * first[len(first) // 2], 2) if first else float("nan"),
    }


def main() -> None:
    """Parse arguments, run, print JSON as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-stream", action="store_true")
    args = parser.parse_args()
    import uvloop

    print(json.dumps(uvloop.run(run(args.base, args.streams, args.seconds, not args.no_stream))))


if __name__ == "__main__":
    main()
