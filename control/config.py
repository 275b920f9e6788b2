"""Settings of control: section `control` of the settings file, `FASTCHAT_CONTROL__*`."""

from __future__ import annotations

from pydantic import Field

from kit.config import Section


class ControlConfig(Section):
    """How control watches its sources and tells its watchers."""

    poll_s: float = Field(default=0.5, gt=0, le=60)
    """How often the database is asked for changes that another replica made, when NATS did not tell."""
    heartbeat_s: float = Field(default=1.0, gt=0, le=4)
    """How often every watcher hears a sign of life. Watchers take a silence of 5 s for the end."""
    reload_s: float = Field(default=1.0, gt=0, le=3600)
    """How often the settings file is looked at."""
    max_watchers: int = Field(default=500, ge=1)
    """Watchers served at once."""
    tombstones_s: float = Field(default=7 * 86_400.0, gt=0)
    """How long removed resources are told one by one; a watcher that was away for longer gets a snapshot."""
    audit_workers: int = Field(default=2, ge=1, le=16)
    """Batches of audit events stored at once."""
