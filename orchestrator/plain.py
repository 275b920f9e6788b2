"""The fast path: a plain completion runs here, now, and only as long as its caller listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from fastchat.common.v1.event_pb2 import RunEvent
from kit.telemetry import current_trace_id
from orchestrator import measures
from orchestrator.coalesce import Buffer
from orchestrator.config import OrchestratorConfig
from orchestrator.events import Numbering, is_terminal
from orchestrator.execution import Execution
from orchestrator.fold import RunFold
from orchestrator.lifecycle import label, status_of
from orchestrator.nodes.port import ModelPort, RunContext
from orchestrator.requests import Accepted

_PATH = "plain"


class PlainRuns:
    """Runs without a log."""

    def __init__(self, config: OrchestratorConfig, models: ModelPort) -> None:
        self._config = config
        self._models = models
        self.active = 0

    async def stream(self, accepted: Accepted) -> AsyncGenerator[list[RunEvent], None]:
        """The run's events, as many at once as are ready. Leaving the iterator cancels the model's call."""
        request = accepted.request
        loop = asyncio.get_running_loop()
        began = loop.time()
        buffer = Buffer(self._config.buffer_bytes)
        context = RunContext(
            call=request.call,
            models=self._models,
            emit=buffer.put,
            deadline=began + accepted.timeout_s,
            patience_s=self._config.plain_patience_s,
            streaming=accepted.streaming,
            usage_every=self._config.usage_every_tokens if request.usage_events else 0,
            context_window=request.started.context_window,
        )
        numbering = Numbering(request.run_id, request.thread_id, current_trace_id())
        outcome = "left"
        measures.RUNS_STARTED.labels(_PATH).inc()
        self.active += 1
        execution = Execution(accepted.graph, context, accepted.timeout_s, resumable=False)
        work = asyncio.ensure_future(_work(execution, buffer))
        try:
            yield [numbering.stamp(request.started)]
            first = True
            while payloads := await buffer.take():
                if first:
                    measures.FIRST_OUTPUT_SECONDS.labels(_PATH).observe(loop.time() - began)
                    first = False
                events = [numbering.stamp(payload) for payload in payloads]
                outcome = _outcome(events[-1]) or outcome
                yield events
            await work
        finally:
            self.active -= 1
            measures.RUNS_ENDED.labels(_PATH, outcome).inc()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})


async def _work(execution: Execution, buffer: Buffer) -> None:
    try:
        await execution.run()
    finally:
        buffer.close()


def _outcome(event: RunEvent) -> str:
    if not is_terminal(event):
        return ""
    fold = RunFold()
    fold.add(event)
    return label(status_of(fold))
