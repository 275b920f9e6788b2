"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.api.bodies import CHAT_BODY
from edge.api.streams import Departure, RunStream
from edge.auth import identity
from edge.openai.chat_request import ENVELOPES, ChatRequest, parse_chat
from edge.permission import Permission
from edge.projections import Options, projection_for
from edge.turns import Turn, Turns
from kit.errors import PlatformError

if TYPE_CHECKING:
    from edge.deps import EdgeDeps

EVENTS_HEADER = "x-fastchat-events"
RUN_HEADER = "x-fastchat-run-id"
THREAD_HEADER = "x-fastchat-thread-id"


def router(deps: EdgeDeps) -> APIRouter:
    """The routes of chat completions."""
    routes = APIRouter(tags=["chat"])
    turns = Turns(deps.clients, deps.threads, deps.settings, Permission(deps.policy, deps.audit))

    @routes.post("/v1/chat/completions", response_model=None, openapi_extra=CHAT_BODY)
    async def create_chat_completion(request: Request) -> Response:
        """Answer a conversation, at once or as a stream (`stream: true`)."""
        who = identity(request.scope)
        asked = parse_chat(await request.body())
        options, thread_id = delivery(asked, request.headers.get(EVENTS_HEADER), turns.settings_of(who).preferences)
        with ExitStack() as owned:
            if options.stream:
                owned.enter_context(deps.limits.stream(who))
            turn = await turns.begin(who, asked.call, options, thread_id)
            owned.enter_context(Departure(request.receive, turn))
            owned.enter_context(deps.answers.running(turn))
            headers = headers_of(turn)
            if not options.stream:
                return await _whole(turn, headers)
            try:
                await turn.open(deps.config.keepalive_s)
            except BaseException:
                await turn.close()
                raise
            return RunStream(turn, projection_for(options), headers, deps.config.keepalive_s, owned.pop_all())

    return routes


async def _whole(turn: Turn, headers: Mapping[str, str]) -> Response:
    try:
        answer = await turn.whole()
    finally:
        await turn.close()
    return Response(orjson.dumps(answer.to_json()), media_type="application/json", headers=dict(headers))


def headers_of(turn: Turn) -> dict[str, str]:
    """Headers that name the run and its thread."""
    headers = {RUN_HEADER: turn.run_id}
    if turn.thread_id:
        headers[THREAD_HEADER] = turn.thread_id
    return headers


def delivery(asked: ChatRequest, header: str | None, preferences: Any) -> tuple[Options, str | None]:
    """How the answer is told, and on which thread (None: none; "": a new one).

    Body over header over key over tenant; the latter two are merged in `preferences` already.
    """
    told = asked.events or _mode(header)
    events = told or preferences.events
    if events == "off" and asked.include_status and not asked.events:
        events = "named"
    status = preferences.include_status if asked.include_status is None else asked.include_status
    thread_id = asked.thread_id or ("" if preferences.auto_thread else None)
    # a plain run sends no frames that nobody asked for
    extended = bool(told) or bool(asked.include_status) or thread_id is not None
    options = Options(
        stream=asked.stream,
        n=asked.choices,
        include_usage=asked.include_usage,
        events=events,
        status=status,
        usage=asked.stream and (asked.include_usage or extended),
        legacy_functions=asked.legacy_functions,
    )
    return options, thread_id


def _mode(header: str | None) -> str:
    if not header:
        return ""
    mode = ENVELOPES.get(header.strip().lower())
    if mode is None:
        raise PlatformError.invalid(
            "X-Fastchat-Events",
            f"Invalid value for header 'X-Fastchat-Events': expected off, named or envelope, not '{header[:32]}'.",
        )
    return mode
