"""The tenant-facing settings: what a tenant or workspace may be given, and how its layers merge.

Every field has a default, so that any part of the document is a valid layer. Fields marked `Narrow` are limits:
a later layer can only take away. All others are preferences: the last layer that tells one wins.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue

from kit.config import Section


class Narrow:
    """Marks a limit: numbers take the minimum, booleans AND, lists of globs the intersection; None is no limit."""


Limit = Annotated[int | None, Field(ge=0), Narrow()]


def _off(value: Any) -> Any:
    """YAML reads a bare `off` as False."""
    return "off" if value is False else value


class Limits(Section):
    """Ceilings. None: no limit from here."""

    requests_per_minute: Limit = None
    """Requests a minute and key."""
    concurrent_streams: Limit = None
    """Streams open at once, per tenant."""
    max_prompt_tokens: Limit = None
    """Tokens of one prompt."""
    max_output_tokens: Limit = None
    """Tokens of one answer; a request that asks for more is cut down to it."""
    max_body_bytes: Limit = None
    """Bytes of one HTTP body."""
    tool_calling: Annotated[bool, Narrow()] = True
    """Whether requests may carry tools."""
    allowed_models: Annotated[list[str] | None, Narrow()] = None
    """Globs of the aliases that may be called; None: all."""


class Preferences(Section):
    """Behaviour that changes nothing about what is allowed."""

    default_model: str = ""
    """Alias used where a request names none; empty: the request must."""
    events: Annotated[Literal["named", "envelope", "off"], BeforeValidator(_off)] = "named"
    """How status and usage frames are sent."""
    include_status: bool = True
    """Whether status frames are sent where the request does not say."""
    auto_thread: bool = False
    """Whether a chat without a thread makes one."""
    on_disconnect: Literal["continue", "cancel_after"] = "continue"
    """What happens to a durable run whose last reader left."""
    thread_busy: Literal["reject", "queue"] = "reject"
    """What a new turn does on a thread whose running run is being read."""


class Runs(Section):
    """Times of runs."""

    timeout_s: float = Field(default=600.0, gt=0)
    """How long a run may take."""
    replay_window_s: float = Field(default=86_400.0, ge=0)
    """How long an ended run can be read again from its log."""
    disconnect_grace_s: float = Field(default=30.0, ge=0)
    """With on_disconnect=cancel_after: how long to wait for a reader."""


class JwtIssuer(Section):
    """An external issuer of bearer tokens, and how its claims name tenant, workspace and roles."""

    issuer: str
    """Value of `iss`."""
    jwks_url: str = ""
    """Where its keys are; empty: `jwks` holds them."""
    jwks: dict[str, JsonValue] | None = None
    """Its keys, inline."""
    audience: str = ""
    """Value that `aud` must contain; empty: not checked."""
    algorithms: list[str] = Field(default=["RS256", "ES256", "EdDSA"])
    """Signature algorithms accepted."""
    tenant_claim: str = ""
    """Claim that names the tenant; empty: the tenant whose settings these are."""
    workspace_claim: str = ""
    """Claim that names the workspace; empty: none."""
    subject_claim: str = "sub"
    """Claim that names the user."""
    roles_claim: str = ""
    """Claim (text or list) that names the roles, translated by role_map."""
    role_map: dict[str, list[str]] = Field(default={})
    """Claim value -> roles here; a value not listed gives none."""
    default_roles: list[str] = Field(default=["member"])
    """Roles of everybody whom the issuer vouches for."""
    scopes: list[str] = Field(default=["chat"])
    """Scopes of its tokens."""


class Security(Section):
    """Who is let in, and for how long on old settings."""

    jwt: list[JwtIssuer] = Field(default=[])
    """Issuers whose tokens are accepted."""
    max_staleness_s: Annotated[float | None, Field(gt=0), Narrow()] = None
    """How old the cached settings may be before requests are refused; None: forever."""
    act_for: Annotated[bool, Narrow()] = True
    """Whether keys that may act for end users can do so."""


class Telemetry(Section):
    """What may be written down about content."""

    log_content: bool = False
    """Whether prompts and answers may appear in logs and spans."""


class TenantSettings(Section):
    """The effective settings of a tenant, workspace or key."""

    limits: Limits = Limits()
    preferences: Preferences = Preferences()
    runs: Runs = Runs()
    security: Security = Security()
    telemetry: Telemetry = Telemetry()


def fields() -> dict[str, tuple[Any, bool]]:
    """Every leaf: dotted name -> (default, whether it only narrows)."""
    found: dict[str, tuple[Any, bool]] = {}
    for group, info in TenantSettings.model_fields.items():
        for name, leaf in info.annotation.model_fields.items():  # type: ignore[union-attr]  # every group is a Section
            narrows = any(isinstance(mark, Narrow) for mark in leaf.metadata)
            found[f"{group}.{name}"] = (leaf.get_default(call_default_factory=True), narrows)
    return found
