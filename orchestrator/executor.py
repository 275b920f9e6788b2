"""Durable runs as jobs: whoever holds the job executes the run, and the log tells who may write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from fastchat.orchestrator.v1.run_service_pb2 import OnDisconnect, StartRunRequest
from kit.crypto import Keyring
from kit.errors import PlatformError, Reason
from kit.eventlog import Fenced
from kit.jobs import Abandon, Job, Retry
from kit.policy import PolicyEngine
from kit.principal import current
from kit.telemetry import get_logger, tracer
from orchestrator import lifecycle, measures
from orchestrator.claim import Claim, Claims
from orchestrator.coalesce import SinkClosed
from orchestrator.config import OrchestratorConfig
from orchestrator.execution import Execution, Left, StopCause
from orchestrator.feed import RunKey
from orchestrator.nodes.legs import lost_leg
from orchestrator.nodes.port import ModelPort, RunContext
from orchestrator.requests import Accepted, Intake
from orchestrator.settle import Settler
from orchestrator.store import RunRow, RunStore

log = get_logger(__name__)

_tracer = tracer(__name__)

_PATH = "durable"
_LONGEST_RETRY_S = 30.0


@dataclass(slots=True, eq=False)
class ActiveRun:
    """A durable run that this replica executes."""

    row: RunRow
    claim: Claim
    accepted: Accepted
    stop: asyncio.Future[StopCause]
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def head(self) -> int:
        """Number of the last event that is in the log."""
        return self.claim.writer.fold.last_sequence

    @property
    def cancels_unread(self) -> bool:
        """Whether the run is cancelled when nobody reads it."""
        return self.accepted.on_disconnect == OnDisconnect.ON_DISCONNECT_CANCEL_AFTER

    def halt(self, cause: StopCause) -> None:
        """Stops the execution; the first cause counts."""
        if not self.stop.done():
            self.stop.set_result(cause)


class Executor:
    """Executes runs' jobs."""

    def __init__(
        self,
        config: OrchestratorConfig,
        replica: str,
        store: RunStore,
        claims: Claims,
        settler: Settler,
        intake: Intake,
        models: ModelPort,
        policy: PolicyEngine,
        keyring: Keyring,
    ) -> None:
        self._config = config
        self._replica = replica
        self._store = store
        self._claims = claims
        self._settler = settler
        self._intake = intake
        self._models = models
        self._policy = policy
        self._keyring = keyring
        self._active: dict[RunKey, ActiveRun] = {}
        self._leaving = False

    def active(self) -> Iterator[tuple[RunKey, ActiveRun]]:
        """Runs executed here."""
        return iter(list(self._active.items()))

    @property
    def busy(self) -> bool:
        """Whether any run is executed here."""
        return bool(self._active)

    def cancel(self, key: RunKey) -> bool:
        """Cancels a run if it is executed here."""
        run = self._active.get(key)
        if run is not None:
            run.halt(StopCause.CANCELLED)
        return run is not None

    async def drain(self, seconds: float) -> None:
        """Lets runs finish for so long, then hands the rest over. No job may be started any more."""
        running = [asyncio.ensure_future(run.done.wait()) for _, run in self.active()]
        if running:
            await asyncio.wait(running, timeout=seconds)
        self._leaving = True
        for _, run in self.active():
            run.halt(StopCause.LEFT)
        if running:
            await asyncio.wait(running)

    async def handle(self, job: Job) -> None:
        """Executes the run of a job to its end. Raises Abandon when another owns it, Retry to hand it over."""
        if self._leaving:
            raise Retry(0.0)
        order = orjson.loads(job.payload)
        row = await self._store.get(order["tenant_id"], order["run_id"])
        if row is None or row.ended_at is not None:
            return
        attributes: dict[str, str | int] = {
            "fastchat.run_id": row.run_id,
            "fastchat.graph": row.graph,
            "fastchat.delivery": job.deliveries,
        }
        try:
            with _tracer.start_as_current_span("run", attributes=attributes):
                await self._own(row, job.deliveries)
        except Fenced as fenced:
            measures.FENCED.inc()
            log.warning("run fenced", run_id=row.run_id)
            raise Abandon from fenced
        except Left as left:
            raise Retry(0.0) from left
        except PlatformError as error:
            # SQL or the bus failed us: whoever gets the job next goes on from the log.
            log.warning("run let go", run_id=row.run_id, reason=error.reason.name, message=error.message)
            raise Retry(min(_LONGEST_RETRY_S, 0.5 * 2**job.deliveries)) from error

    async def _own(self, row: RunRow, deliveries: int) -> None:
        key = (row.tenant_id, row.run_id)
        older = self._active.get(key)
        if older is not None:
            older.halt(StopCause.LEFT)
        sealed = self._keyring.open(row.tenant_id, row.key_id, row.request, row.run_id.encode())
        accepted = self._intake.restore(StartRunRequest.FromString(sealed))
        claim = await self._claims.claim(row, accepted, deliveries)
        run = ActiveRun(row, claim, accepted, asyncio.get_running_loop().create_future())
        self._active[key] = run
        if self._leaving:
            run.halt(StopCause.LEFT)
        measures.RUNS_ACTIVE.labels(_PATH).inc()
        try:
            if not claim.writer.fold.ended:
                await self._write(run, deliveries)
            await self._settler.settle(row, claim.writer.fold)
        finally:
            measures.RUNS_ACTIVE.labels(_PATH).dec()
            self._claims.release(row, claim.writer)
            if self._active.get(key) is run:
                del self._active[key]
            run.done.set()

    async def _write(self, run: ActiveRun, deliveries: int) -> None:
        """Executes while what it emits is appended, until all of it is in the log."""
        writer = run.claim.writer
        mark = asyncio.ensure_future(
            self._store.mark_running((run.row.tenant_id, run.row.run_id), lifecycle.RUNNING, self._replica, run.head)
        )
        pump = asyncio.ensure_future(writer.pump())
        # An append that fails while the model is silent must stop the model too.
        pump.add_done_callback(lambda ended: run.halt(StopCause.LEFT))
        left: Exception | None = None
        try:
            await self._execute(run, deliveries)
        except (Left, SinkClosed) as stopped:
            left = stopped
        finally:
            writer.close()
            await asyncio.wait({pump, mark})
        # Why the sink closed counts more than that it closed.
        for failure in (pump.exception(), mark.exception(), left):
            if failure is not None and not (failure is left and writer.fold.ended):
                raise failure

    async def _execute(self, run: ActiveRun, deliveries: int) -> None:
        execution = await self._execution(run)
        refusal = self._refusal(run, deliveries)
        if refusal is not None:
            await execution.fail(refusal)
            return
        if run.row.cancel_requested:
            run.halt(StopCause.CANCELLED)
        await execution.run(run.stop)

    def _refusal(self, run: ActiveRun, deliveries: int) -> PlatformError | None:
        """Why the run may not go on, if it may not."""
        if run.claim.lost or deliveries > self._config.max_deliveries:
            why = run.claim.lost or f"it was handed to a replica {deliveries} times"
            text = f"The run was interrupted and cannot go on: {why}."
            return PlatformError(Reason.RUN_INTERRUPTED, text, run_id=run.row.run_id)
        try:
            self._policy.require(current(), "chat.create", "Chat", run.row.model_alias)
        except PlatformError as denied:
            return denied
        return None

    async def _execution(self, run: ActiveRun) -> Execution:
        request, fold = run.accepted.request, run.claim.writer.fold
        left_s = (run.row.deadline_at - datetime.now(UTC)).total_seconds()
        context = RunContext(
            call=request.call,
            models=self._models,
            emit=run.claim.writer.emit,
            deadline=asyncio.get_running_loop().time() + left_s,
            patience_s=self._config.model_patience_s,
            usage_every=self._config.usage_every_tokens if request.usage_events else 0,
            context_window=request.started.context_window,
        )
        if not fold.delivered.empty:
            # The fold goes on with every append: the context needs what was seen before this leg.
            context.delivered = fold.delivered.copy()
            context.legs.append(await lost_leg(self._models, request.call, fold.delivered.all_text(), "interrupted"))
        return Execution(run.accepted.graph, context, run.row.timeout_ms / 1000, fold.has_final_usage)
