"""Settings of the integration process (section `integration`)."""

from __future__ import annotations

from pydantic import Field

from kit.config import Section


class TimeoutConfig(Section):
    """How long a request to a provider may take where the alias does not say. Seconds."""

    connect_s: float = Field(default=5.0, gt=0)
    """Until the connection stands."""
    first_token_s: float = Field(default=60.0, gt=0)
    """Until the first output of a stream."""
    idle_s: float = Field(default=30.0, gt=0)
    """Longest silence inside a stream."""
    total_s: float = Field(default=600.0, gt=0)
    """The whole request."""


class IntegrationConfig(Section):
    """How this replica calls providers. What may be called is in the registry and in the tenants' settings."""

    retries: int = Field(default=1, ge=0, le=10)
    """Further tries of an alias that does not say, before its first fallback and before the first token."""
    backoff_s: float = Field(default=0.2, ge=0)
    """Pause before the first retry; each further one doubles it, and a random part of it is left out."""
    backoff_max_s: float = Field(default=2.0, ge=0)
    """Longest pause. A provider that asks for a longer one is not retried but falls back."""
    timeouts: TimeoutConfig = TimeoutConfig()
    """Where the alias does not say."""
    check_interval_s: float = Field(default=2.0, gt=0)
    """How often readiness looks at the providers' breakers."""
    stream_messages_per_s: float = Field(default=800.0, gt=0)
    """Messages that all streams of this replica send together, at most. Above it, chunks wait and leave merged: a
    message costs CPU in three services, so this bounds what streaming costs. About 400 a core of the machine."""
