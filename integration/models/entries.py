"""A model registry entry as control pushes it, and its secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kit.crypto import Keyring
from kit.errors import PlatformError, Reason

_ENV = "env:"
# Providers that would log in as the platform itself (instance roles, default credential chains) when given no key.
AMBIENT = ("bedrock", "sagemaker", "vertex_ai", "azure_ad", "sap", "watsonx")
# All that a tenant's own entry may tell LiteLLM: nothing that reads the platform's files or environment.
TENANT_PARAMETERS = frozenset(
    {
        "model",
        "api_base",
        "api_key",
        "api_version",
        "organization",
        "custom_llm_provider",
        "extra_headers",
        "allowed_openai_params",
        "input_cost_per_token",
        "output_cost_per_token",
    }
)
_NO_KEY = "none"


class _Part(BaseModel):
    # What a newer control adds is no reason to refuse an alias.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Timeouts(_Part):
    """Seconds; None: the service's defaults."""

    connect_s: float | None = None
    first_token_s: float | None = None
    idle_s: float | None = None
    total_s: float | None = None


class Cooldown(_Part):
    """The alias' breaker."""

    failures: int = 5
    seconds: float = 30.0


class Entry(_Part):
    """One alias; the fields are those of the settings file's `models`."""

    alias: str
    litellm: dict[str, Any] = Field(repr=False)
    mode: Literal["chat", "responses", "embedding", "chat+embedding"] = "chat"
    context_window: int | None = None
    max_output_tokens: int | None = None
    fallbacks: list[str] = []
    retries: int | None = None
    timeouts: Timeouts = Timeouts()
    cooldown: Cooldown = Cooldown()
    created: int = 0

    @property
    def modes(self) -> frozenset[str]:
        """What it serves: chat, responses, embedding."""
        return frozenset(self.mode.split("+"))


def parse(body_json: str, alias: str) -> Entry:
    """The entry. UPSTREAM_INVALID_REQUEST when it cannot be read: the caller cannot help it, an operator can."""
    try:
        return Entry.model_validate_json(body_json)
    except ValidationError:
        # the error's text would repeat what is in the entry
        message = f'The registry entry of the model "{alias}" cannot be read.'
        raise PlatformError(Reason.UPSTREAM_INVALID_REQUEST, message, model=alias) from None


def parameters(entry: Entry, owner: str, keyring: Keyring, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The entry's `litellm` object with its secrets opened.

    References to the environment and ambient credentials are the platform's: an entry of a tenant (`owner` not empty)
    that needs them is refused, or the tenant could send them to a server of its own.
    """
    given = dict(entry.litellm)
    if owner:
        _check_tenant_entry(entry, given)
        given.setdefault("api_key", _NO_KEY)
    resolver = _Resolver(entry.alias, owner, keyring, os.environ if env is None else env)
    resolved: dict[str, Any] = resolver.resolve(given)
    return resolved


def _check_tenant_entry(entry: Entry, given: Mapping[str, Any]) -> None:
    foreign = sorted(given.keys() - TENANT_PARAMETERS)
    provider = str(given.get("custom_llm_provider") or given.get("model", "")).split("/")[0]
    if foreign or provider.startswith(AMBIENT):
        what = ", ".join(foreign) or f"the provider {provider}"
        message = f'The model "{entry.alias}" uses {what}, which only entries of the platform may.'
        raise PlatformError(Reason.MODEL_POLICY_DENIED, message, rule="tenant-model-entry", model=entry.alias)


class _Resolver:
    """Opens secrets anywhere in an entry."""

    def __init__(self, alias: str, owner: str, keyring: Keyring, env: Mapping[str, str]) -> None:
        self._alias = alias
        self._owner = owner
        self._keyring = keyring
        self._env = env

    def resolve(self, value: Any) -> Any:
        """The value with every text in it opened."""
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        if not text.startswith(_ENV):
            return self._keyring.open_text(self._owner, text)
        name = text.removeprefix(_ENV)
        if self._owner:
            message = f'The model "{self._alias}" refers to the environment, which only entries of the platform may.'
            raise PlatformError(Reason.MODEL_POLICY_DENIED, message, rule="tenant-model-entry", model=self._alias)
        found = self._env.get(name)
        if found is None:
            message = f'The model "{self._alias}" needs the environment variable {name}, which is not set.'
            raise PlatformError(Reason.UPSTREAM_AUTHENTICATION, message, model=self._alias)
        return found
