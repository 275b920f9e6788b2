"""A turn: one request for an answer, from the decision to allow it to the last event, over any transport.

begin: policy -> limits -> thread (messages are written first) -> StartRun. read: events, with the answer committed
before the last of them is handed on. leave: a plain run is cancelled at once, a durable one goes on.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Any

from edge.clients import Clients, EventCall, attach_run, start_run
from edge.permission import Permission
from edge.projections import PROJECTION_VERSION, Options
from edge.projections.fold import Answer
from edge.run_reader import RunReader
from edge.threads import Threads, ThreadTurn
from fastchat.common.v1.event_pb2 import RUN_MODE_CHAT, RunEvent, RunStarted
from fastchat.integration.v1.model_service_pb2 import ModelCall
from fastchat.orchestrator.v1 import run_service_pb2 as runs_pb
from kit.errors import PlatformError, Reason
from kit.ids import new_uuid
from kit.principal import acting_as

if TYPE_CHECKING:
    from edge.auth import Authenticated
    from kit.settings import SettingsCache, TenantSettings

_SILENT = frozenset({"started", "usage", "agent", "context_summarized"})


class Turn:
    """A running turn. Read it to its end, or leave it."""

    def __init__(
        self, request: runs_pb.StartRunRequest, reader: RunReader, threads: Threads, thread: ThreadTurn | None
    ) -> None:
        self.run_id = request.run_id
        self.thread_id = request.thread_id
        self._tenant_id = request.tenant_id
        self._reader = reader
        self._threads = threads
        self._thread = thread
        self._answer = Answer() if thread is not None else None
        self._shown = False
        self._opening: asyncio.Task[list[RunEvent]] | None = None
        self._held: list[RunEvent] = []

    async def open(self, patience_s: float | None = None) -> bool:
        """Wait until there is something to show, for `patience_s` at most; whether there is.

        Raises when the run failed before: the caller can still answer with the error's own status.
        """
        self._opening = asyncio.ensure_future(self._first())
        await asyncio.wait({self._opening}, timeout=patience_s)
        if not self._opening.done():
            # from here on the stream has begun, and a failure is told in it
            self._shown = True
            return False
        opening, self._opening = self._opening, None
        self._held = opening.result()
        return True

    async def read(self) -> list[RunEvent]:
        """The next events, in order; empty after the last. CANCELLED once `leave` was called."""
        if self._held:
            held, self._held = self._held, []
            return held
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return await opening
        return await self._read()

    async def whole(self) -> Answer:
        """Read to the end and fold. Raises what the run failed with."""
        answer = self._answer or Answer()
        while events := await self.read():
            for event in events:
                if self._answer is None:
                    answer.feed(event)
        if answer.error is not None:
            raise PlatformError.from_event(answer.error)
        return answer

    def leave(self, why: PlatformError | None = None) -> None:
        """The reader is gone, or is to be told `why` it cannot stay. Reads that wait end with that, else CANCELLED."""
        self._reader.leave(why)

    async def close(self) -> None:
        """Leave, unless it was read to its end. Safe to repeat; always call it."""
        if not self._reader.ended:
            self._reader.leave()
        if self._opening is not None:
            opening, self._opening = self._opening, None
            await asyncio.wait({opening})
            # whatever it failed with, nobody is left to be told
            opening.exception()

    async def _first(self) -> list[RunEvent]:
        held: list[RunEvent] = []
        while events := await self._read():
            held += events
            for event in events:
                kind = event.WhichOneof("payload")
                if kind == "error" and not self._shown:
                    raise PlatformError.from_event(event.error)
                if kind not in _SILENT:
                    self._shown = True
                    return held
        return held

    async def _read(self) -> list[RunEvent]:
        try:
            events = await self._reader.read()
        except PlatformError as error:
            if self._reader.last == 0 and not self._reader.left and error.reason is not Reason.CANCELLED:
                # the run never began
                await self._retract()
            raise
        if self._answer is not None:
            for event in events:
                self._answer.feed(event)
            if self._answer.ended and events:
                await self._settle(self._answer)
        return events

    async def _settle(self, answer: Answer) -> None:
        if answer.error is not None and all(choice.empty for choice in answer.choices.values()) and not self._shown:
            # told as an HTTP error, after which clients send the same messages again
            await self._retract()
        else:
            await self._threads.commit(self._tenant_id, answer)

    async def _retract(self) -> None:
        if self._thread is not None:
            await self._threads.retract(self._tenant_id, self._thread, self.run_id)


class Turns:
    """Begins turns."""

    def __init__(self, clients: Clients, threads: Threads, settings: SettingsCache, permission: Permission) -> None:
        self._clients = clients
        self._threads = threads
        self._settings = settings
        self._permission = permission

    def settings_of(self, who: Authenticated) -> TenantSettings:
        """What holds for the caller: its key's settings over its workspace's over its tenant's."""
        principal = who.principal
        extra: dict[str, Any] | None = dict(who.key_settings) or None
        return self._settings.effective(principal.tenant_id, principal.workspace_id, extra)

    async def begin(self, who: Authenticated, call: ModelCall, options: Options, thread_id: str | None) -> Turn:
        """Start a run. `thread_id`: None: no thread; "": a new one. The call's tenant is filled in here."""
        principal = who.principal
        await self._permission.require(principal, "chat.create", "Chat", call.model_alias)
        settings = self.settings_of(who)
        call.tenant_id = principal.tenant_id
        call.model_alias = call.model_alias or _default_model(settings)
        _limit(call, settings)
        run_id = new_uuid()
        thread: ThreadTurn | None = None
        if thread_id is not None:
            thread = await self._threads.begin(principal, thread_id, call.messages, run_id)
            del call.messages[:]
            call.messages.extend(thread.messages)
        request = _request(run_id, call, options, thread)
        request.workspace_id = principal.workspace_id

        def open_call(after: int) -> EventCall:
            with acting_as(principal):
                if after:
                    return attach_run(self._clients, request.tenant_id, run_id, after)
                return start_run(self._clients, request)

        return Turn(request, RunReader(open_call, durable=request.durable), self._threads, thread)


def _request(run_id: str, call: ModelCall, options: Options, thread: ThreadTurn | None) -> runs_pb.StartRunRequest:
    started = RunStarted(
        public_id="chatcmpl-" + run_id.replace("-", ""),
        created=int(time()),
        model=call.model_alias,
        mode=RUN_MODE_CHAT,
        projection_version=PROJECTION_VERSION,
    )
    request = runs_pb.StartRunRequest(
        tenant_id=call.tenant_id,
        run_id=run_id,
        call=call,
        usage_events=options.usage or options.events == "envelope",
    )
    if thread is not None:
        request.thread_id = thread.thread_id
        request.parent_message_id = thread.parent_message_id
        request.durable = True
        started.response_message_id = new_uuid()
        options = replace(options, parent_message_id=thread.parent_message_id)
    started.projection_json = options.to_json()
    request.started.CopyFrom(started)
    return request


def _default_model(settings: TenantSettings) -> str:
    model = settings.preferences.default_model
    if not model:
        raise PlatformError.invalid("model", "Missing required parameter: 'model'.")
    return str(model)


def _limit(call: ModelCall, settings: TenantSettings) -> None:
    """The limits that a request itself can break; those of models are kept where models are called."""
    limits = settings.limits
    if call.tools and limits.tool_calling is False:
        raise PlatformError(
            Reason.POLICY_DENIED,
            "Tool calling is switched off for you.",
            rule="limits.tool_calling",
            action="chat.create",
        )
    most = limits.max_output_tokens
    if most is not None:
        call.max_tokens = min(call.max_tokens, most) if call.HasField("max_tokens") else most
