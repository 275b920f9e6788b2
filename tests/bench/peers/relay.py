"""Python's floor: a bare FastAPI relay that parses and rewrites each chunk, and does nothing else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

UPSTREAM = os.environ["BENCH_UPSTREAM"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app.state.session = session
        yield


app = FastAPI(lifespan=lifespan)


async def rewrite(session: aiohttp.ClientSession, body: bytes) -> AsyncIterator[bytes]:
    """Each upstream chunk parsed, changed, and written again as one frame."""
    async with session.post(UPSTREAM, data=body, headers={"content-type": "application/json"}) as answer:
        buffer = b""
        async for data in answer.content.iter_any():
            buffer += data
            *frames, buffer = buffer.split(b"\n\n")
            for frame in frames:
                if frame == b"data: [DONE]":
                    yield b"data: [DONE]\n\n"
                    continue
                chunk = orjson.loads(frame[6:])
                chunk["id"] = "chatcmpl-relay"
                yield b"data: " + orjson.dumps(chunk) + b"\n\n"


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    """Relay one completion."""
    body = await request.body()
    session: aiohttp.ClientSession = request.app.state.session
    if orjson.loads(body).get("stream"):
        return StreamingResponse(rewrite(session, body), media_type="text/event-stream")
    async with session.post(UPSTREAM, data=body, headers={"content-type": "application/json"}) as answer:
        whole = orjson.loads(await answer.read())
    whole["id"] = "chatcmpl-relay"
    return Response(orjson.dumps(whole), media_type="application/json")
