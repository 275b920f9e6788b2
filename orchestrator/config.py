"""Settings of the orchestrator process (section `orchestrator`)."""

from __future__ import annotations

from pydantic import Field

from kit.config import Section


class OrchestratorConfig(Section):
    """How this replica runs runs. Tenant-facing rules (timeouts, disconnects) are in the tenant's settings."""

    concurrent_runs: int = Field(200, ge=1)
    """Durable runs that this replica executes at once; further ones wait in the queue."""

    lease_s: float = Field(2.0, ge=0.5)
    """How long a run stays with a replica that gives no sign of life. Heartbeats come three times as often."""

    max_deliveries: int = Field(8, ge=2)
    """How often a run is handed to a replica before it is given up as poison (RUN_INTERRUPTED)."""

    watch_interval_s: float = Field(1.0, gt=0)
    """How often a replica looks for cancellations and unread runs among those that it executes."""

    watermark_interval_s: float = Field(5.0, gt=0)
    """How often SQL is told how far the logs of the executed runs have come."""

    readers_wait_s: float = Field(0.15, gt=0)
    """How long other replicas have to tell how many readers a run has."""

    supersede_wait_s: float = Field(5.0, gt=0)
    """How long a new turn waits for the end of the run that it supersedes."""

    queue_wait_s: float = Field(300.0, gt=0)
    """How long a new turn waits for its thread where the setting thread_busy is `queue`."""

    model_patience_s: float = Field(30.0, ge=0)
    """How long a durable run waits for an integration service that cannot be reached."""

    plain_patience_s: float = Field(3.0, ge=0)
    """The same for a plain completion, whose client waits."""

    usage_every_tokens: int = Field(50, ge=1)
    """Completion tokens between two usage events."""

    buffer_bytes: int = Field(262144, ge=4096)
    """Output of one run that may wait to be logged or sent before the model is held back."""

    sweep_interval_s: float = Field(60.0, gt=0)
    """How often logs past their window and runs without a job are looked for."""

    stuck_after_s: float = Field(120.0, gt=1)
    """An unfinished run that nobody touched for this long gets a new job."""
