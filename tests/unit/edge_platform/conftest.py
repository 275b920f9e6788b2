"""What the tests of this folder share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from edge.auth.apikey import ApiKeys
from edge.auth.authenticator import Authenticator
from edge.auth.bearer import BearerTokens
from edge.auth.identity import KeyHash, KeyRecord
from edge.auth.jwks import JsonWebKeys
from edge.config import AuthConfig, JwksConfig
from edge.pushed import Pushed
from kit.errors import PlatformError, Reason
from kit.settings import SettingsCache
from tests.unit.edge_platform.pushing import Control


@dataclass
class Clock:
    """Time that passes when told."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Lookups:
    """Control's LookupApiKey."""

    known: dict[KeyHash, KeyRecord] = field(default_factory=dict)
    asked: list[KeyHash] = field(default_factory=list)
    away: bool = False
    gate: asyncio.Event | None = None
    """Answers wait for it, once they were found."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, key_hash: KeyHash) -> KeyRecord | None:
        self.asked.append(key_hash)
        if self.away:
            raise PlatformError(Reason.DEPENDENCY_UNAVAILABLE, "control is away", dependency="control")
        found = self.known.get(key_hash)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        return found


@dataclass
class Doorway:
    """Authentication put together over a cache that the test fills."""

    cache: SettingsCache
    control: Control
    pushed: Pushed
    lookups: Lookups
    clock: Clock
    authenticator: Authenticator


@pytest.fixture
async def door():
    clock, lookups, cache = Clock(), Lookups(), SettingsCache()
    pushed = Pushed(cache)
    config = AuthConfig()
    keys = JsonWebKeys(JwksConfig(allow_http=True), clock=clock)
    tokens = BearerTokens(keys, pushed.issuers, pushed.trusts, clock=clock)
    api_keys = ApiKeys(pushed, lookups, config, clock)
    yield Doorway(cache, Control(cache), pushed, lookups, clock, Authenticator(api_keys, tokens, pushed))
    pushed.close()
    await keys.close()
