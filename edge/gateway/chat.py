"""ChatService of fastchat.gateway.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.clients import told
from edge.gateway.caller import Context, caller
from edge.gateway.convert import to_call
from edge.openai.fields import dumps
from edge.permission import Permission
from edge.projections import Options
from edge.projections.fold import Answer
from edge.turns import Turn, Turns
from fastchat.gateway.v1 import chat_service_pb2 as pb
from fastchat.gateway.v1.chat_service_pb2_grpc import ChatServiceServicer
from fastchat.integration.v1 import model_service_pb2 as models_pb
from kit.principal import acting_as

if TYPE_CHECKING:
    from edge.auth import Authenticated
    from edge.deps import EdgeDeps


class ChatServicer(ChatServiceServicer):
    """Chats as streams of run events, or at once."""

    def __init__(self, deps: EdgeDeps) -> None:
        self._deps = deps
        self._permission = Permission(deps.policy, deps.audit)
        self._turns = Turns(deps.clients, deps.threads, deps.settings, self._permission)

    async def StreamChat(self, request: pb.StreamChatRequest, context: Context) -> AsyncIterator[pb.StreamChatResponse]:
        """StreamChat answers a conversation as a stream of run events."""
        who = await caller(self._deps, context)
        with self._deps.limits.stream(who):
            turn = await self._begin(who, request.chat, Options(usage=request.usage_events))
            try:
                while events := await turn.read():
                    for event in events:
                        yield pb.StreamChatResponse(event=event)
            finally:
                await turn.close()

    async def CompleteChat(self, request: pb.CompleteChatRequest, context: Context) -> pb.CompleteChatResponse:
        """CompleteChat answers a conversation at once."""
        who = await caller(self._deps, context)
        turn = await self._begin(who, request.chat, Options(stream=False))
        try:
            answer = await turn.whole()
        finally:
            await turn.close()
        return _completion(answer, turn)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """ListModels lists the aliases that the caller may use."""
        principal = (await caller(self._deps, context)).principal
        await self._permission.require(principal, "model.list", "Model", "")
        with acting_as(principal):
            listing = self._deps.clients.models.ListModels(models_pb.ListModelsRequest(tenant_id=principal.tenant_id))
            return pb.ListModelsResponse(models=(await told(listing, "integration")).models)

    async def _begin(self, who: Authenticated, chat: pb.Chat, options: Options) -> Turn:
        call = to_call(chat)
        preferences = self._turns.settings_of(who).preferences
        thread_id = chat.thread_id or ("" if preferences.auto_thread else None)
        return await self._turns.begin(who, call, replace(options, n=call.options.n or 1), thread_id)


def _completion(answer: Answer, turn: Turn) -> pb.CompleteChatResponse:
    response = pb.CompleteChatResponse(
        id=answer.started.public_id,
        usage=answer.usage,
        model=answer.started.model,
        run_id=turn.run_id,
        thread_id=turn.thread_id,
    )
    for index in answer.indexes():
        choice = answer.choice(index)
        logprobs = choice.logprobs()
        response.choices.add(
            index=index,
            message=choice.message(),
            finish_reason=answer.finish_reason(index),
            logprobs_json=dumps(logprobs) if logprobs else "",
        )
    return response
