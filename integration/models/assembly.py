"""Puts the gateway together. Importing this module imports LiteLLM: do it off the event loop."""

from __future__ import annotations

import time
import warnings

from integration.config import IntegrationConfig
from integration.models.aliases import Aliases
from integration.models.deployments import Deployment, Doors, deploy
from integration.models.doors.compatible import mapped_params
from integration.models.entries import Entry
from integration.models.gateway import Gateway
from integration.models.governance import Governance
from integration.models.offline import provider
from integration.models.port import Target
from integration.models.runtime import litellm
from kit.audit import Audit
from kit.crypto import Keyring
from kit.errors import PlatformError
from kit.health import Health
from kit.policy import PolicyEngine
from kit.resilience import BreakerState
from kit.settings import SettingsCache

_WITHOUT = "other models go on; calls of this one go to its fallbacks"


class Models:
    """The gateway with what it stands on."""

    def __init__(self, config: IntegrationConfig, cache: SettingsCache, keyring: Keyring, audit: Audit) -> None:
        self.doors = Doors()

        def make(entry: Entry, owner: str) -> Deployment:
            return deploy(entry, owner, keyring, self.doors, config, time.monotonic)

        self.aliases = Aliases(cache, make)
        self.gateway = Gateway(self.aliases, Governance(cache, PolicyEngine(cache), audit), config)
        self._reported: set[str] = set()

    def report(self, health: Health) -> None:
        """Tell which of the platform's models are degraded."""
        names = self.aliases.platform_names()
        for alias in names:
            detail = self._trouble(alias)
            health.set(f"model {alias}", not detail, detail, _WITHOUT if detail else "")
        for gone in self._reported - set(names):
            health.set(f"model {gone}", True, "removed")
        self._reported = set(names)

    def _trouble(self, alias: str) -> str:
        try:
            deployment = self.aliases.get("", alias)
        except PlatformError as error:
            return error.message
        if deployment.breaker.state is BreakerState.CLOSED:
            return ""
        return f"{deployment.target.name} keeps failing and is not called for now"

    async def close(self) -> None:
        """Let go of connections."""
        self.aliases.close()
        await self.doors.close()


def warm() -> None:
    """Make LiteLLM do what it does on its first call: load provider configs, price list and tokenizer."""
    provider.register()
    target = Target("openai", "gpt-4o", "http://127.0.0.1:1/v1", "none", {})
    mapped_params(target, {"temperature": 1.0, "max_tokens": 1, "stop": ["."]})
    litellm.cost_per_token(model="gpt-4o", prompt_tokens=1, completion_tokens=1, custom_llm_provider="openai")
    # the tokenizer takes half a second and 70 MB; a cancelled call is the wrong moment for that
    litellm.token_counter(model="gpt-4o", text="hello")
    hello = [{"role": "user", "content": "hello"}]
    with warnings.catch_warnings():
        # pydantic complains of LiteLLM's types while it builds them, once
        warnings.simplefilter("ignore")
        litellm.completion(model="offline/offline", messages=hello)
        for _ in litellm.completion(model="offline/offline", messages=hello, stream=True):
            pass
