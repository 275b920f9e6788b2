"""The last release's client, frozen: its contracts as descriptors, and calls that know nothing newer.

`proto/baseline.binpb` holds the protos of the last release (`make baseline` moves it, at a release, and `buf breaking`
compares with it). What is built here from it is what a client was that generated its code then: the messages of that
release, in a pool of their own, and plain gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

BASELINE = Path(__file__).resolve().parents[2] / "proto" / "baseline.binpb"


class PreviousRelease:
    """Messages and methods as the last release had them."""

    def __init__(self, path: Path = BASELINE) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)
        self._names = [f"{file.package}.{service.name}" for file in files.file for service in file.service]

    def services(self) -> list[str]:
        """Full names of all services."""
        return [name for name in self._names if name.startswith("fastchat.")]

    def methods(self, service: str) -> Iterator[MethodDescriptor]:
        """The methods of a service."""
        yield from self._pool.FindServiceByName(service).methods

    def message(self, name: str, **fields: Any) -> Message:
        """A message, by its full name."""
        kind = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))
        made: Message = kind(**fields)
        return made

    def call(self, channel: grpc.aio.Channel, service: str, method: str) -> Any:
        """What a generated stub's method is: `call(request, metadata=..., timeout=...)`."""
        told = self._pool.FindMethodByName(f"{service}.{method}")
        answer = message_factory.GetMessageClass(told.output_type)
        kind = f"{_word(told.client_streaming)}_{_word(told.server_streaming)}"
        return getattr(channel, kind)(
            f"/{service}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def request(self, service: str, method: str, **fields: Any) -> Message:
        """The method's request."""
        told = self._pool.FindMethodByName(f"{service}.{method}")
        return self.message(told.input_type.full_name, **fields)


def _word(streams: bool) -> str:
    return "stream" if streams else "unary"
