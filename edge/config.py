"""Settings of the edge: section `edge` of the settings file, `FASTCHAT_EDGE__*`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kit.config import Section

EXPOSED_HEADERS = (
    "x-request-id",
    "x-fastchat-run-id",
    "x-fastchat-thread-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "retry-after",
    "etag",
    "link",
    "location",
)


class CorsConfig(Section):
    """Which browsers' origins may call, and what they may read."""

    origins: tuple[str, ...] = Field(("*",), description="Origins allowed; `*`: any, without cookies.")
    allow_headers: tuple[str, ...] = Field(("*",), description="Request headers allowed; `*`: those asked for.")
    expose_headers: tuple[str, ...] = Field(EXPOSED_HEADERS, description="Response headers that scripts may read.")
    max_age_s: Annotated[int, Field(ge=0, le=86400)] = Field(600, description="How long a preflight holds, seconds.")


class TimeoutConfig(Section):
    """How long the edge waits, seconds."""

    first_byte_s: float = Field(600.0, gt=0, description="Until the answer's first byte.")
    admin_s: float = Field(30.0, gt=0, description="The same for /v1/admin routes.")
    body_idle_s: float = Field(30.0, gt=0, description="Longest silence while a request's body arrives.")


class JwksConfig(Section):
    """How the keys of external token issuers are fetched."""

    cache_s: float = Field(300.0, gt=0, description="How long fetched keys are used before a refresh, seconds.")
    stale_s: float = Field(86400.0, gt=0, description="How long they are used when the issuer cannot be reached.")
    refetch_interval_s: float = Field(10.0, gt=0, description="Least time between refetches for an unknown key id.")
    timeout_s: float = Field(5.0, gt=0, description="Timeout of one fetch, seconds.")
    max_bytes: int = Field(262_144, gt=0, description="Largest key set accepted, bytes.")
    allow_http: bool = Field(False, description="Accept http:// key-set URLs. For testing on one machine only.")


class AuthConfig(Section):
    """How callers are told apart."""

    negative_cache_s: float = Field(1.0, gt=0, le=60, description="How long an unknown key stays unknown, seconds.")
    negative_cache_size: int = Field(10_000, gt=0, description="Unknown keys remembered at most.")
    lookup_timeout_s: float = Field(2.0, gt=0, description="Timeout of a key look-up at control, seconds.")
    lookup_concurrency: int = Field(16, gt=0, description="Key look-ups under way at once.")
    clock_skew_s: int = Field(60, ge=0, le=600, description="How wrong a token issuer's clock may be, seconds.")
    jwks: JwksConfig = JwksConfig()


class PartnerConfig(Section):
    """The public gRPC port, fastchat.gateway.v1."""

    enabled: bool = Field(True, description="Whether to serve it.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8081, description="Port; 0: any free one.")


class EdgeConfig(Section):
    """Everything that the edge can be told."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="Port; 0: any free one.")
    max_body_bytes: int = Field(32 * 1024 * 1024, gt=0, description="Largest request body; tenants may narrow it.")
    cors: CorsConfig = CorsConfig()
    timeouts: TimeoutConfig = TimeoutConfig()
    auth: AuthConfig = AuthConfig()
    partner: PartnerConfig = PartnerConfig()
    metrics: bool = Field(True, description="Serve /metrics on this port too, without a key and without tenants.")
    docs: bool = Field(True, description="Serve /docs and /openapi.json.")
    keepalive_s: float = Field(15.0, gt=0, description="Silence on a stream after which a `: ping` is sent, seconds.")
    settings_wait_s: float = Field(1.0, gt=0, description="How long an admin write waits to be in force here, seconds.")
    ready_requires_control: bool = Field(False, description="Whether /health/ready fails when control is away.")
