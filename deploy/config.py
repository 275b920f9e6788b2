"""Settings of the all-in-one: section ``allinone``, ``FASTCHAT_ALLINONE__*``."""

from __future__ import annotations

from pydantic import Field

from kit.config import Section


class AllInOneConfig(Section):
    """How ``fastchat up`` runs its processes."""

    fsync: bool = False
    """Whether NATS writes through to the disk before it acknowledges. Off: a power cut, not a crash, may lose the
    event log's last moments; affected runs then end with run_interrupted. On: each append waits for the disk."""
    start_timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """How long everything may take to be ready."""
    stop_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """How long a process may take to drain (mesh.drain_s) and end before it is killed."""
