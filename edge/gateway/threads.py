"""ThreadService of fastchat.gateway.v1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.gateway.caller import Context, caller
from edge.openai.fields import string
from edge.permission import Permission
from edge.thread_deletion import delete_with_run
from edge.threads import LONGEST_TITLE
from fastchat.common.v1.principal_pb2 import Principal
from fastchat.gateway.v1 import thread_service_pb2 as pb
from fastchat.gateway.v1.thread_service_pb2_grpc import ThreadServiceServicer

if TYPE_CHECKING:
    from edge.deps import EdgeDeps


class ThreadServicer(ThreadServiceServicer):
    """Threads and their messages."""

    def __init__(self, deps: EdgeDeps) -> None:
        self._deps = deps
        self._permission = Permission(deps.policy, deps.audit)
        self._threads = deps.threads

    async def CreateThread(self, request: pb.CreateThreadRequest, context: Context) -> pb.CreateThreadResponse:
        """CreateThread makes an empty thread."""
        principal = await self._allowed(context, "thread.write")
        user_id = string(request.user_id, "user_id", longest=256)
        title = string(request.title, "title", longest=LONGEST_TITLE)
        return pb.CreateThreadResponse(thread=await self._threads.create(principal, user_id, title))

    async def GetThread(self, request: pb.GetThreadRequest, context: Context) -> pb.GetThreadResponse:
        """GetThread tells about one thread."""
        principal = await self._allowed(context, "thread.read", request.thread_id)
        return pb.GetThreadResponse(thread=await self._threads.get(principal, request.thread_id))

    async def ListThreads(self, request: pb.ListThreadsRequest, context: Context) -> pb.ListThreadsResponse:
        """ListThreads lists threads, last used first."""
        principal = await self._allowed(context, "thread.read")
        page = await self._threads.page(principal, request.page_size, request.page_token)
        return pb.ListThreadsResponse(threads=page.threads, next_page_token=page.next_page_token)

    async def UpdateThread(self, request: pb.UpdateThreadRequest, context: Context) -> pb.UpdateThreadResponse:
        """UpdateThread changes title or pin."""
        principal = await self._allowed(context, "thread.write", request.thread_id)
        title = string(request.title, "title", longest=LONGEST_TITLE) if request.HasField("title") else None
        pinned = request.is_pinned if request.HasField("is_pinned") else None
        thread = await self._threads.update(principal, request.thread_id, title, pinned)
        return pb.UpdateThreadResponse(thread=thread)

    async def DeleteThread(self, request: pb.DeleteThreadRequest, context: Context) -> pb.DeleteThreadResponse:
        """DeleteThread removes a thread with its messages."""
        principal = await self._allowed(context, "thread.write", request.thread_id)
        await delete_with_run(self._deps.clients, self._threads, principal, request.thread_id)
        return pb.DeleteThreadResponse()

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Context) -> pb.ListMessagesResponse:
        """ListMessages lists the messages of a thread's current branch, oldest first."""
        principal = await self._allowed(context, "thread.read", request.thread_id)
        messages, token = await self._threads.messages(
            principal, request.thread_id, request.page_size, request.page_token
        )
        return pb.ListMessagesResponse(messages=messages, next_page_token=token)

    async def _allowed(self, context: Context, action: str, thread_id: str = "") -> Principal:
        principal = (await caller(self._deps, context)).principal
        await self._permission.require(principal, action, "Thread", thread_id)
        return principal
