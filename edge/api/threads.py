"""/v1/threads: conversations that the platform keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from edge.api.bodies import THREAD_CREATE_BODY, THREAD_UPDATE_BODY
from edge.auth import identity
from edge.openai.fields import boolean, only, optional_string, parse_object, string, wrong_type, wrong_value
from edge.openai.render import content_json, role_name, tool_calls_json
from edge.permission import Permission
from edge.thread_deletion import delete_with_run
from edge.threads import LONGEST_TITLE
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.gateway.v1 import thread_service_pb2 as pb

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


def router(deps: EdgeDeps) -> APIRouter:
    """The routes of threads. Arrays are bare; a `Link` header with rel="next" leads to the next page."""
    routes = APIRouter(prefix="/v1/threads", tags=["threads"])
    permission = Permission(deps.policy, deps.audit)
    threads = deps.threads

    async def allowed(request: Request, action: str, thread_id: str = "") -> Principal:
        principal = identity(request.scope).principal
        await permission.require(principal, action, "Thread", thread_id)
        return principal

    @routes.get("", response_model=None)
    async def list_threads(request: Request) -> Response:
        """The caller's threads, last used first. Query: `limit` (1 to 200, 50), `after`, `user_id`."""
        principal = await allowed(request, "thread.read")
        query = request.query_params
        page = await threads.page(principal, _limit(query), query.get("after", ""), query.get("user_id", ""))
        return _array(request, [thread_json(thread) for thread in page.threads], page.next_page_token)

    @routes.post("", status_code=201, response_model=None, openapi_extra=THREAD_CREATE_BODY)
    async def create_thread(request: Request) -> Response:
        """Make an empty thread."""
        principal = await allowed(request, "thread.write")
        body = await request.body()
        source = parse_object(body) if body.strip() else {}
        only(source, ("user_id", "title"))
        user_id = optional_string(source, "user_id", longest=256)
        title = optional_string(source, "title", longest=LONGEST_TITLE)
        thread = await threads.create(principal, user_id, title)
        return _json(thread_json(thread), 201, {"location": f"/v1/threads/{thread.id}"})

    @routes.get("/{thread_id}", response_model=None)
    async def get_thread(request: Request, thread_id: str) -> Response:
        """One thread, with the run that works on it now."""
        return _json(thread_json(await threads.get(await allowed(request, "thread.read", thread_id), thread_id)))

    @routes.patch("/{thread_id}", response_model=None, openapi_extra=THREAD_UPDATE_BODY)
    async def update_thread(request: Request, thread_id: str) -> Response:
        """Change title or pin."""
        principal = await allowed(request, "thread.write", thread_id)
        source = parse_object(await request.body())
        only(source, ("title", "is_pinned"))
        title = string(source["title"], "title", longest=LONGEST_TITLE) if "title" in source else None
        pinned = boolean(source, "is_pinned")
        if "is_pinned" in source and pinned is None:
            wrong_type("is_pinned", "a boolean", None)
        return _json(thread_json(await threads.update(principal, thread_id, title, pinned)))

    @routes.delete("/{thread_id}", response_model=None)
    async def delete_thread(request: Request, thread_id: str) -> Response:
        """Remove a thread with its messages; a run that works on it is cancelled."""
        principal = await allowed(request, "thread.write", thread_id)
        thread = await delete_with_run(deps.clients, threads, principal, thread_id)
        return _json({"id": thread.id, "object": "thread.deleted", "deleted": True})

    @routes.get("/{thread_id}/messages", response_model=None)
    async def list_messages(request: Request, thread_id: str) -> Response:
        """Messages of the current branch, oldest first. Query: `limit` (1 to 200, 50), `after`."""
        principal = await allowed(request, "thread.read", thread_id)
        query = request.query_params
        page, token = await threads.messages(principal, thread_id, _limit(query), query.get("after", ""))
        return _array(request, [message_json(message) for message in page], token)

    return routes


def thread_json(thread: pb.Thread) -> dict[str, Any]:
    """A thread as front ends read it."""
    return {
        "id": thread.id,
        "user_id": thread.user_id,
        "title": thread.title or None,
        "is_pinned": thread.is_pinned,
        "message_count": thread.message_count,
        "last_message_preview": thread.last_message_preview or None,
        "active_run_id": thread.active_run_id or None,
        "created_at": thread.create_time.ToJsonString(),
        "updated_at": thread.update_time.ToJsonString(),
    }


def message_json(stored: pb.ThreadMessage) -> dict[str, Any]:
    """A message as front ends read it; fields beyond the original's only where there is something to tell."""
    message = stored.message
    body: dict[str, Any] = {
        "id": stored.id,
        "parent_id": stored.parent_id or None,
        "role": role_name(message.role),
        "content": content_json(message),
        "created_at": stored.create_time.ToJsonString(),
    }
    if message.tool_calls:
        body["tool_calls"] = tool_calls_json(message)
    for name, value in (
        ("name", message.name),
        ("tool_call_id", message.tool_call_id),
        ("refusal", message.refusal),
        ("reasoning_content", message.reasoning),
        ("run_id", stored.run_id),
    ):
        if value:
            body[name] = value
    return body


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit")
    if text is None:
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= 200:
        wrong_value("limit", f"expected an integer from 1 to 200, but got '{text[:32]}' instead.")
    return int(text)


def _array(request: Request, items: list[dict[str, Any]], token: str) -> Response:
    headers = {}
    if token:
        query = urlencode({**request.query_params, "after": token})
        headers["link"] = f'<{request.url.path}?{query}>; rel="next"'
    return _json(items, 200, headers)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), "application/json")
