"""fastchat.gateway.v1: chat, runs and threads for partners over gRPC, on the edge's public port."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio

from edge.gateway.chat import ChatServicer
from edge.gateway.runs import RunServicer
from edge.gateway.threads import ThreadServicer
from fastchat.gateway.v1 import chat_service_pb2_grpc, run_service_pb2_grpc, thread_service_pb2_grpc

if TYPE_CHECKING:
    from edge.deps import EdgeDeps

__all__ = ["SERVICE_NAMES", "ChatServicer", "RunServicer", "ThreadServicer", "registrations"]

SERVICE_NAMES = (
    "fastchat.gateway.v1.ChatService",
    "fastchat.gateway.v1.RunService",
    "fastchat.gateway.v1.ThreadService",
)


def registrations(deps: EdgeDeps) -> list[Callable[[grpc.aio.Server], None]]:
    """What adds the servicers to a server."""
    chat, runs, threads = ChatServicer(deps), RunServicer(deps), ThreadServicer(deps)
    return [
        lambda server: chat_service_pb2_grpc.add_ChatServiceServicer_to_server(chat, server),
        lambda server: run_service_pb2_grpc.add_RunServiceServicer_to_server(runs, server),
        lambda server: thread_service_pb2_grpc.add_ThreadServiceServicer_to_server(threads, server),
    ]
