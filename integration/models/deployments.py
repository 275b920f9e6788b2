"""An alias made ready to be called: target, door, timeouts, breaker and cooldown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from integration.config import IntegrationConfig
from integration.models import entries
from integration.models.doors.compatible import CompatibleDoor, config_of
from integration.models.doors.ordinary import OrdinaryDoor
from integration.models.entries import Entry
from integration.models.offline import answers as offline
from integration.models.offline.door import OfflineDoor
from integration.models.port import Door, Failure, Target
from integration.models.runtime import litellm
from kit.crypto import Keyring
from kit.errors import PlatformError, Reason
from kit.resilience import Breaker, BreakerPolicy

Clock = Callable[[], float]
_LONGEST_COOLDOWN_S = 300.0
# Parameters of an entry that are ours, or that Target holds by name.
_NOT_OPTIONS = frozenset({"model", "api_base", "api_key", "custom_llm_provider"})


class Doors:
    """One of each kind, shared by all deployments."""

    def __init__(self) -> None:
        self.compatible: Door = CompatibleDoor()
        self.ordinary: Door = OrdinaryDoor()
        self.offline: Door = OfflineDoor()

    def for_target(self, target: Target, mode: str) -> Door:
        """The door to a target. The Responses API is LiteLLM's to translate."""
        if target.provider == offline.NAME:
            return self.offline
        if mode != "responses" and config_of(target.provider, target.model) is not None:
            return self.compatible
        return self.ordinary

    async def close(self) -> None:
        """Close their connections."""
        for door in (self.compatible, self.ordinary, self.offline):
            await door.close()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a request may take, in all its parts."""

    connect_s: float
    first_token_s: float
    idle_s: float
    total_s: float


class Deployment:
    """One alias of one owner. Made anew when its entry changes."""

    def __init__(
        self, entry: Entry, owner: str, target: Target, door: Door, config: IntegrationConfig, clock: Clock
    ) -> None:
        self.entry = entry
        self.owner = owner
        self.target = target
        self.door = door
        self.retries = config.retries if entry.retries is None else entry.retries
        self.times = times_of(entry, config)
        self._clock = clock
        self._cool_until = 0.0
        policy = BreakerPolicy(failures=entry.cooldown.failures, cooldown_s=entry.cooldown.seconds)
        self.breaker = Breaker(self.dependency, policy, clock)

    @property
    def alias(self) -> str:
        """What clients ask for."""
        return self.entry.alias

    @property
    def dependency(self) -> str:
        """Name in breaker metrics and readiness: bounded, and without a tenant's own names."""
        return "tenant models" if self.owner else f"model {self.alias}"

    @property
    def label(self) -> str:
        """Model label of metrics, bounded the same way."""
        return "tenant" if self.owner else self.alias

    def admit(self) -> None:
        """Let a request through, or raise CIRCUIT_OPEN with the time after which one may try."""
        left = self._cool_until - self._clock()
        if left > 0:
            message = f'The model "{self.alias}" is not called for now: its provider asked to wait.'
            raise PlatformError(Reason.CIRCUIT_OPEN, message, retry_after_s=left, dependency=self.target.name)
        self.breaker.before()

    def succeeded(self) -> None:
        """A request went well."""
        self._cool_until = 0.0
        self.breaker.succeeded()

    def failed(self, failure: Failure) -> None:
        """A request failed. What the request itself is to blame for is not held against the provider."""
        if not failure.retryable:
            self.breaker.abandoned()
            return
        self.breaker.failed()
        if failure.retry_after_s:
            self._cool_until = self._clock() + min(failure.retry_after_s, _LONGEST_COOLDOWN_S)


def times_of(entry: Entry, config: IntegrationConfig) -> Times:
    """The entry's timeouts over the service's defaults."""
    own, default = entry.timeouts, config.timeouts
    return Times(
        own.connect_s or default.connect_s,
        own.first_token_s or default.first_token_s,
        own.idle_s or default.idle_s,
        own.total_s or default.total_s,
    )


def deploy(
    entry: Entry,
    owner: str,
    keyring: Keyring,
    doors: Doors,
    config: IntegrationConfig,
    clock: Clock = time.monotonic,
) -> Deployment:
    """Make an entry ready. Raises PlatformError for missing secrets and for providers unknown to LiteLLM."""
    given = entries.parameters(entry, owner, keyring)
    target = _target(entry, given, owner, times_of(entry, config))
    return Deployment(entry, owner, target, doors.for_target(target, entry.mode), config, clock)


def _target(entry: Entry, given: dict[str, object], owner: str, times: Times) -> Target:
    model = str(given.get("model", ""))
    try:
        name, provider, key, base = litellm.get_llm_provider(
            model=model,
            custom_llm_provider=given.get("custom_llm_provider"),
            api_base=given.get("api_base"),
            api_key=given.get("api_key"),
        )
    except litellm.BadRequestError:
        message = f'The model "{entry.alias}" names no provider that LiteLLM knows: {model}.'
        raise PlatformError(Reason.UPSTREAM_INVALID_REQUEST, message, model=entry.alias) from None
    own_key = given.get("api_key")
    return Target(
        provider=provider,
        model=name,
        api_base=str(given.get("api_base") or base or "") or None,
        # a key that LiteLLM found in the environment is the platform's
        api_key=str(own_key) if owner else (str(own_key or key or "") or None),
        options={key: value for key, value in given.items() if key not in _NOT_OPTIONS},
        connect_timeout_s=times.connect_s,
        total_timeout_s=times.total_s,
    )


def context_window(deployment: Deployment) -> int:
    """Tokens of prompt and answer together, by the entry or LiteLLM's list; 0 if not known."""
    return deployment.entry.context_window or _listed(deployment.target, "max_input_tokens")


def max_output(deployment: Deployment) -> int:
    """Tokens of the longest answer, by the entry or LiteLLM's list; 0 if not known."""
    return deployment.entry.max_output_tokens or _listed(deployment.target, "max_output_tokens")


def _listed(target: Target, field: str) -> int:
    listed = litellm.model_cost.get(target.name) or litellm.model_cost.get(target.model) or {}
    value = listed.get(field)
    return value if isinstance(value, int) else 0
