"""Every rpc of every service in fastchat.*, from the proto descriptors, as cases of the sweep."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import fastchat
from deploy.services import SERVICES
from tests.support.isolation.rpc_table import HOLDS_NOTHING, KINDS, NOT_SERVED, PLAIN, RPCS, Rpc
from tests.support.isolation.sweep import Answer, Slot
from tests.support.isolation.templates import filled, has_places
from tests.support.isolation.tenants import Ids

assert error_details_pb2, "registers the details that a status may carry"

PARTNER = "gateway"
"""Where partners call: the edge's public port."""
_TIMEOUT_S = 30.0
_HEADERS = ("x-tenant-id", "x-workspace", "x-user-id")
_HEADER_KINDS = {"x-tenant-id": "tenant", "x-workspace": "workspace", "x-user-id": "user"}
_MOST_MESSAGES = 2000


@dataclass(frozen=True)
class Method:
    """An rpc at one of the services that serve it."""

    service: str
    descriptor: MethodDescriptor

    @property
    def name(self) -> str:
        """Such as "control fastchat.control.v1.TenantService/GetTenant"."""
        return f"{self.service} {self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def key(self) -> str:
        """Name in the table."""
        package, service = self.descriptor.containing_service.full_name.rsplit(".", 1)
        return f"{package.split('.')[1]}.{service}/{self.descriptor.name}"


def methods() -> list[Method]:
    """Every rpc, at every service that serves it."""
    found: list[Method] = []
    for folder in fastchat.__path__:
        for path in sorted(Path(folder).rglob("*_pb2.py")):
            parts = path.relative_to(Path(folder).parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    found += [Method(at, method) for at in _served_at(parts[1])]
    return found


def _served_at(package: str) -> Sequence[str]:
    return SERVICES if package == "common" else (package,)


def unknown_fields(method: MethodDescriptor) -> list[str]:
    """Text fields of the request of which the table does not say whether they name things."""
    return [
        field.full_name
        for _, field in _texts(method.input_type)
        if field.name not in PLAIN and field.full_name not in PLAIN and _kind(field) is None
    ]


def _kind(field: FieldDescriptor) -> str | None:
    return KINDS.get(field.full_name) or KINDS.get(field.name)


def _texts(
    descriptor: Descriptor, path: tuple[str, ...] = (), above: tuple[Descriptor, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldDescriptor]]:
    """Every text, bytes or map field, with its path."""
    if descriptor in above:
        return
    for field in descriptor.fields:
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry:
            if not inner.full_name.startswith("google."):
                yield from _texts(inner, (*path, field.name), (*above, descriptor))
        elif inner is not None or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield (*path, field.name), field


class RpcCase:
    """An rpc as a case of the sweep. `caller` makes the call's metadata for an API key."""

    def __init__(self, method: Method, world: RpcWorld) -> None:
        self.name = method.name
        self._method = method.descriptor
        self._rpc: Rpc = RPCS.get(method.key, Rpc({}))
        self._world = world
        self._partner = method.service == PARTNER
        self._target = world.targets[method.service]
        self.lively = False
        self.order, self.owner_order = self._rpc.order, self._rpc.owner_order
        self.owner = self._rpc.owner

    def slots(self) -> Sequence[Slot]:
        """Fields that name things, places in documents, and for partners the headers that name them."""
        found = [
            Slot(".".join(path), path, kind)
            for path, field in _texts(self._method.input_type)
            if (kind := _kind(field))
        ]
        found += [
            Slot(".".join(path), path, "document")
            for path, text in _leaves(self._rpc.request)
            if has_places(text, self._world.absent) and not (text.startswith("{") and text[1:-1] in self._world.absent)
        ]
        if self._partner:
            found += [Slot(f"header {name}", (name,), _HEADER_KINDS[name]) for name in _HEADERS]
        return found

    def send(self, api_key: str, base: Ids, slot: Slot | None = None, ids: Ids | None = None) -> Answer:
        """Call it; of a stream, read all (the owner's: the first message)."""
        request = ParseDict(filled(self._rpc.request, self._with_page(base)), self._class(self._method.input_type)())
        metadata = list(self._world.metadata(api_key, partner=self._partner))
        if slot is not None and ids is not None:
            value = self._value(slot, ids)
            if slot.path[0] in _HEADERS:
                metadata.append((slot.path[0], value))
            else:
                _put(request, slot.path, value)
        whole = api_key == self._world.other_key
        return self._call(request, metadata, whole=whole)

    def undo(self, ids: Ids) -> None:
        """As tenant B, take away what such a request may have made."""
        if self._rpc.undo:
            self._world.undo(filled(self._rpc.undo, ids))

    def _value(self, slot: Slot, ids: Ids) -> str:
        if slot.kind != "document":
            return self._with_page(ids)[slot.kind]
        return str(filled(dict(_leaves(self._rpc.request))[slot.path], ids))

    def _with_page(self, ids: Ids) -> Ids:
        return ids if self._rpc.page is None else {**ids, "page": self._rpc.page(ids)}

    def _call(self, request: Message, metadata: list[tuple[str, str | bytes]], *, whole: bool) -> Answer:
        streams = ("unary", "stream")
        kind = f"{streams[self._method.client_streaming]}_{streams[self._method.server_streaming]}"
        path = f"/{self._method.containing_service.full_name}/{self._method.name}"
        invoke = getattr(self._world.channel(self._target), kind)(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._class(self._method.output_type).FromString,
        )
        sent: Any = iter([request]) if self._method.client_streaming else request
        messages: list[Message] = []
        if not self._method.server_streaming:
            call = invoke.with_call
            try:
                answer, told = call(sent, metadata=metadata, timeout=_TIMEOUT_S)
                messages.append(answer)
            except grpc.RpcError as error:
                told = error
        else:
            told = invoke(sent, metadata=metadata, timeout=_TIMEOUT_S)
            with suppress(grpc.RpcError):
                for message in told:
                    messages.append(message)
                    if not whole or len(messages) > _MOST_MESSAGES:
                        break
            if messages and not whole:
                told.cancel()
                return Answer("OK", {}, _folded(messages), str(request))
        headers = {
            f"{where} {name}": str(value)
            for where, pairs in (("leading", told.initial_metadata()), ("trailing", told.trailing_metadata()))
            for name, value in pairs or ()
            if name != "grpc-status-details-bin"
        }
        body = f"{_folded(messages)}\n{told.details() or ''}\n{_details(told.trailing_metadata())}"
        return Answer(told.code().name, headers, body, str(request) + str(metadata))

    def _class(self, descriptor: Descriptor) -> type[Any]:
        return message_factory.GetMessageClass(descriptor)


class RpcWorld:
    """How to reach the mesh and the partner port as the two tenants."""

    def __init__(
        self, targets: Mapping[str, str], principals: Mapping[str, bytes], other_key: str, nothing: Ids, undo: Any
    ) -> None:
        """`principals`: a signed principal by API key; `undo`: DELETE a path as tenant B."""
        self.targets = targets
        self.absent = nothing
        self.other_key = other_key
        self.undo = undo
        self._principals = principals
        self._channels: dict[str, grpc.Channel] = {}

    def metadata(self, api_key: str, *, partner: bool) -> list[tuple[str, str | bytes]]:
        """Credentials of a call."""
        if partner:
            return [("authorization", f"Bearer {api_key}")]
        return [("fc-principal-bin", self._principals[api_key])]

    def channel(self, target: str) -> grpc.Channel:
        """A channel, opened once."""
        if target not in self._channels:
            self._channels[target] = grpc.insecure_channel(target)
        return self._channels[target]

    def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            channel.close()


def served(found: Sequence[Method]) -> list[Method]:
    """Those that this release serves."""
    return [method for method in found if method not in unserved(found)]


def unserved(found: Sequence[Method]) -> list[Method]:
    """Those that are declared for later, and the ScopeService of services that hold nothing."""
    return [
        method
        for method in found
        if method.key in NOT_SERVED or (method.service in HOLDS_NOTHING and method.key.startswith("common.Scope"))
    ]


def _put(message: Any, path: tuple[str, ...], value: str) -> None:
    for name in path[:-1]:
        inner = getattr(message, name)
        if not message.DESCRIPTOR.fields_by_name[name].is_repeated:
            message = inner
        else:
            message = inner[0] if inner else inner.add()
    field = message.DESCRIPTOR.fields_by_name[path[-1]]
    told: Any = value.encode() if field.type == FieldDescriptor.TYPE_BYTES else value
    if field.is_repeated:
        del getattr(message, path[-1])[:]
        getattr(message, path[-1]).append(told)
    else:
        setattr(message, path[-1], told)


def _leaves(template: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of a template, with its path; list indexes are not part of it."""
    if isinstance(template, dict):
        for name, value in template.items():
            yield from _leaves(value, (*path, name))
    elif isinstance(template, list):
        for value in template:
            yield from _leaves(value, path)
    elif isinstance(template, str):
        yield path, template


def _folded(messages: Sequence[Message]) -> str:
    """The messages as text. Of a run's events, kinds and text: how they are grouped depends on the time of day."""
    if not messages or "event" not in messages[0].DESCRIPTOR.fields_by_name:
        return "\n".join(json.dumps(MessageToDict(m, preserving_proto_field_name=True)) for m in messages)
    kinds: list[str] = []
    text = ""
    for message in messages:
        told: Any = message
        for event in (told.event, *getattr(told, "more", ())):
            kind = event.WhichOneof("payload")
            kinds += [kind] if not kinds or kinds[-1] != kind else []
            text += "".join(delta.text for delta in event.token.deltas)
            if kind == "error":
                text += str(event.error)
    return f"{kinds} {text}"


def _details(trailing: Any) -> str:
    for name, value in trailing or ():
        if name == "grpc-status-details-bin":
            return json.dumps(MessageToDict(status_pb2.Status.FromString(value)), sort_keys=True)
    return ""
